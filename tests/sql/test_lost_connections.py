"""However a connection is lost, callers see one outcome, and it is what the database holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import count
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy.exc import OperationalError

from sqlsessions import SessionConflict, SessionInfo, SqlSessionStorage, StorageUnavailable
from sqlsessions.sql.statements import in_doubt
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import PATIENCE, provider_of

from ..faults.proxy import Proxy
from .support import INLINE, TINY, each_network_driver, each_server, holding, kind, query, reconnect

LARGE, OTHER_LARGE = b"a" * 101, b"b" * 101
KILL_OTHERS = {
    "postgresql": """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
        """,
    "mysql": """
        SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()
        """,
}
Call = Callable[[SqlSessionStorage, SessionInfo], Any]


class Gone:
    """Has the server vanish behind a proxy when it is called."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.happened = False

    async def __call__(self) -> None:
        self.happened = True
        self.proxy.refusing = True


# A call, the data there before, and what the sessions "id" and "new" hold afterwards.
CALLS: dict[str, tuple[Call, bytes, bytes | None, bytes | None]] = {
    "write": (lambda s, _: s.write_bytes("id", b"1"), INLINE, b"1", None),
    "write if it is the version": (
        lambda s, old: s.write_bytes("id", b"1", if_match=old.version),
        INLINE,
        b"1",
        None,
    ),
    "write if there is none": (lambda s, _: s.write_bytes("new", b"1", if_match=0), INLINE, INLINE, b"1"),
    "write small over large": (lambda s, _: s.write_bytes("id", b"1"), LARGE, b"1", None),
    "write large": (
        lambda s, old: s.write("id", provider_of(OTHER_LARGE), if_match=old.version),
        LARGE,
        OTHER_LARGE,
        None,
    ),
    "rotate small": (lambda s, _: s.rotate("id", "new"), INLINE, None, INLINE),
    "rotate large": (lambda s, _: s.rotate("id", "new"), LARGE, None, LARGE),
    "invalidate": (lambda s, _: s.invalidate("id"), INLINE, None, None),
    "invalidate large": (lambda s, _: s.invalidate("id"), LARGE, None, None),
    "invalidate key": (lambda s, old: s.invalidate_key(old.key), INLINE, None, None),
    "touch": (lambda s, _: s.touch("id", ttl=5), INLINE, INLINE, None),
}


@pytest_asyncio.fixture
async def proxy(sql_url: str) -> AsyncIterator[Proxy]:
    async with Proxy.to(sql_url) as proxy:
        yield proxy


@pytest_asyncio.fixture
async def storage(proxy: Proxy, clock: ManualClock) -> AsyncIterator[SqlSessionStorage]:
    """A storage by way of the proxy."""
    async with SqlSessionStorage(proxy.url, clock=clock, pool_size=3, **TINY) as storage:
        yield storage


@pytest_asyncio.fixture
async def direct(sql_url: str, clock: ManualClock) -> AsyncIterator[SqlSessionStorage]:
    async with SqlSessionStorage(sql_url, clock=clock, **TINY) as storage:
        yield storage


async def fill_pool(storage: SqlSessionStorage) -> None:
    async with holding(storage, 3):
        pass


async def kill_all(url: str) -> None:
    for (id,) in await query(url, KILL_OTHERS[kind(url)]):
        if kind(url) == "mysql":
            try:
                await query(url, f"KILL {id}")
            except OperationalError as error:  # it was about to end
                assert "Unknown thread id" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "sql_url",
    ["postgresql+asyncpg", "mysql+asyncmy", "mysql+aiomysql", "MySQL+asyncmy", "MySQL+aiomysql"],
    indirect=True,
)
async def test_a_connection_that_the_server_has_closed_is_not_used_again(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url, retry_for=0) as storage:
        await storage.write_bytes("id", INLINE)
        [(_, idle)] = storage._database.engines.state().kept_idle
        await kill_all(sql_url)
        async with asyncio.timeout(PATIENCE):
            while not storage._database.dialect.closed(idle):
                await asyncio.sleep(0)
        await storage.write_bytes("id", b"new")
        assert await storage.read_bytes("id") == b"new"


@each_network_driver
@pytest.mark.parametrize("how", ["reset", "killed"])
async def test_idle_connections_may_die_unnoticed(
    storage: SqlSessionStorage, proxy: Proxy, sql_url: str, how: str
) -> None:
    info = await storage.write_bytes("id", INLINE)
    calls: list[Callable[[], Any]] = [
        lambda: storage.read_bytes("id"),
        lambda: storage.write_bytes("id", INLINE),
        lambda: storage.write("large", provider_of(LARGE)),
        lambda: storage.read_bytes("large"),
        lambda: storage.touch("id", ttl=5),
        storage.purge,
        lambda: storage.rotate("id", "new"),
        lambda: storage.invalidate("new"),
    ]
    for call in calls:
        await fill_pool(storage)
        if how == "reset":
            proxy.cut()
        else:
            await kill_all(sql_url)
        async with asyncio.timeout(PATIENCE):
            await call()
    assert await storage.read_bytes("large") == LARGE
    assert await storage.load("id") is await storage.load("new") is None
    assert info.size == len(INLINE)


@each_network_driver
@pytest.mark.parametrize("what", ["request", "answer"])
@pytest.mark.parametrize("name", ["write", "write large"])
async def test_whichever_message_is_lost_every_driver_says_so(
    storage: SqlSessionStorage,
    direct: SqlSessionStorage,
    proxy: Proxy,
    sql_url: str,
    what: Any,
    name: str,
) -> None:
    await check_every_loss(storage, direct, proxy, sql_url, what, name)


@each_server
@pytest.mark.parametrize("name", CALLS)
async def test_whichever_message_is_lost_there_is_one_outcome(
    storage: SqlSessionStorage, direct: SqlSessionStorage, proxy: Proxy, sql_url: str, name: str
) -> None:
    await check_every_loss(storage, direct, proxy, sql_url, "answer", name)


async def check_every_loss(
    storage: SqlSessionStorage, direct: SqlSessionStorage, proxy: Proxy, sql_url: str, what: Any, name: str
) -> None:
    call, before, after, after_new = CALLS[name]
    for nth in count(1):
        await query(sql_url, "DELETE FROM sessions")
        await query(sql_url, "DELETE FROM session_chunks")  # of an end, too, which would leave it unknown
        old = await direct.write_bytes("id", before, ttl=100)
        await reconnect(storage)  # so that there are the same messages each time
        async with asyncio.timeout(PATIENCE):
            with proxy.losing(what, nth):
                result = await call(storage, old)
        held = [await direct.load(id) for id in ("id", "new")]
        assert [snapshot and snapshot.data for snapshot in held] == [after, after_new]
        if isinstance(result, SessionInfo):
            assert result in [snapshot and snapshot.info for snapshot in held]
        elif isinstance(result, bool):
            assert result
        if not proxy.lost:
            break
    assert nth > 1


@each_server
@pytest.mark.parametrize("data", [b"ours", OTHER_LARGE], ids=["small", "large"])
@pytest.mark.parametrize("condition", ["the version", "none"])
@pytest.mark.parametrize("other", ["writes", "ends it"])
async def test_a_conditional_write_whose_trace_is_gone_says_that_nobody_knows(
    storage: SqlSessionStorage,
    direct: SqlSessionStorage,
    proxy: Proxy,
    data: bytes,
    condition: str,
    other: str,
) -> None:
    """It was written, the answer was lost, and before we could look, it was written over or ended."""
    took_effect = False

    async def interfere() -> None:
        nonlocal took_effect
        await direct.touch("id", ttl=10_000)  # which waits for a COMMIT that is under way
        snapshot = await direct.load("id")
        took_effect = snapshot is not None and snapshot.data == data
        await (direct.write_bytes("id", b"theirs") if other == "writes" else direct.invalidate("id"))

    effects = 0
    for nth in count(1):
        await direct.invalidate("id")
        old = await direct.write_bytes("id", INLINE) if condition == "the version" else None
        await reconnect(storage)
        took_effect = False
        write = storage.write_bytes("id", data, if_match=old.version if old else 0)
        async with asyncio.timeout(PATIENCE):
            with proxy.losing("answer", nth, interfere):
                [outcome] = await asyncio.gather(write, return_exceptions=True)
        effects += took_effect
        if isinstance(outcome, SessionInfo):
            assert outcome == await direct.info("id")
        elif took_effect or not isinstance(outcome, SessionConflict):
            assert isinstance(outcome, StorageUnavailable)
            assert "unknown" in str(outcome)
        if not proxy.lost:
            break
    assert effects > 0


@each_network_driver
async def test_a_lost_batch_is_given_up_at_once_and_says_that_the_outcome_is_unknown(sql_url: str) -> None:
    """One deadline for the batch, not one for each of its operations."""
    retries = []

    class Observer:
        def batch(self, size: int, *, writes: bool) -> None:
            pass

        def retry(self, kind: str) -> None:
            retries.append(kind)

    async with (
        Proxy.to(sql_url) as proxy,
        SqlSessionStorage(proxy.url, pool_size=1, retry_for=0.5) as storage,
    ):
        await storage.write_bytes("id", INLINE)
        storage._database.observer = Observer()
        with proxy.losing("answer", 1, after := Gone(proxy)):
            writes = [storage.write_bytes(f"id {number}", INLINE) for number in range(20)]
            outcomes = await asyncio.gather(*writes, return_exceptions=True)
        assert after.happened
        assert {type(outcome) for outcome in outcomes} == {StorageUnavailable}
        unknown = [outcome for outcome in outcomes if "unknown" in str(outcome)]
        # The first write is sent alone, or all go together; what was never sent cannot be reached.
        assert unknown
        assert len(retries) < 20
        proxy.heal()


@each_server
async def test_a_lost_batch_is_resolved_by_one_look(sql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    look = in_doubt.look

    async def counted(connection: Any, versions: Any) -> Any:
        looked.append(len(versions))
        return await look(connection, versions)

    monkeypatch.setattr(in_doubt, "look", counted)
    async with SqlSessionStorage(sql_url, pool_size=3) as storage:
        for number in range(40):
            await storage.write_bytes(f"id {number}", INLINE)
        driver: Any = storage._repository._executor._driver
        write = driver.write
        lost: list[int] = []

        async def written_but_lost(connection: Any, changes: Any) -> Any:
            results = await write(connection, changes)
            if len(changes) > 1 and not lost:
                lost.append(len(changes))
                raise ConnectionResetError
            return results

        monkeypatch.setattr(driver, "write", written_but_lost)
        calls: list[Coroutine[Any, Any, Any]] = [
            storage.write_bytes(f"id {number}", b"new") for number in range(30)
        ]
        calls += [storage.invalidate(f"id {number}") for number in range(30, 40)]
        await asyncio.gather(*calls)
        assert looked == lost
        assert [
            snapshot and snapshot.data
            for snapshot in [await storage.load("id 0"), await storage.load("id 39")]
        ] == [b"new", None]
