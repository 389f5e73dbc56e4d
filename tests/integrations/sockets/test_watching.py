"""The one task that looks after the sessions of all open connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

import pytest

from sqlsessions import (
    ManagedSessionStorage,
    SessionInfo,
    SessionStorageMemory,
    SqlSessionStorage,
    Successor,
    new_session_id,
)
from sqlsessions.integrations._web.alive import Alive
from sqlsessions.integrations._web.manager import SessionManager
from sqlsessions.integrations._web.session import Session
from sqlsessions.integrations._web.watching import BATCH, Watch, Watcher, _watchers, notice
from sqlsessions.testing import ManualClock, SpyStorage

from ..moving import begin, process

LIMIT = 10.0  # seconds
OFTEN = 0.02
NEVER = 30.0


async def read(manager: SessionManager, id: str) -> Session:
    session = manager.open(id)
    await manager.load(session)
    return session


class Connection:
    """An open connection with a session: a task that waits for ever in an `Alive`."""

    def __init__(self, manager: SessionManager, session: Session, every: float) -> None:
        self.codes: list[int] = []
        self.block = Alive(self._session, manager.storage, self._close, lambda: True, every=every)
        self.session = session
        self.opened = asyncio.Event()
        self.task = asyncio.create_task(self._serve())

    async def _session(self) -> Session:
        return self.session

    async def _close(self, code: int, _reason: str) -> None:
        self.codes.append(code)

    async def _serve(self) -> None:
        async with self.block:
            self.opened.set()
            await asyncio.Event().wait()


class Opener:
    """Opens connections, and closes them at the end of a test."""

    def __init__(self) -> None:
        self.opened: list[Connection] = []

    async def __call__(self, manager: SessionManager, id: str, every: float = OFTEN) -> Connection:
        connection = Connection(manager, await read(manager, id), every)
        self.opened.append(connection)
        await connection.opened.wait()
        return connection


@pytest.fixture
async def connect() -> AsyncIterator[Opener]:
    opener = Opener()
    yield opener
    for each in opener.opened:
        each.task.cancel()
    await asyncio.gather(*(each.task for each in opener.opened), return_exceptions=True)
    async with asyncio.timeout(LIMIT):
        while _watchers:  # the task of a watcher ends by itself
            await asyncio.sleep(0)


async def ended(connection: Connection) -> None:
    async with asyncio.timeout(LIMIT):
        await connection.task
    assert connection.block.ended
    assert connection.codes == [1008]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():
            await asyncio.sleep(OFTEN / 4)


async def asked_again(storage: SpyStorage, call: str = "infos", times: int = 2) -> None:
    before = storage.calls.count(call)
    await until(lambda: storage.calls.count(call) >= before + times)


async def test_one_question_is_about_all(storage: SpyStorage, one: SessionManager, connect: Opener) -> None:
    id = await begin(one, "7", a=1)
    first = [await connect(one, id, NEVER) for _ in range(3)]
    others = [await connect(one, await begin(one, a=1), NEVER) for _ in range(5)]
    storage.calls.clear()
    notice(storage, None)
    await until(lambda: storage.calls)
    await asyncio.sleep(OFTEN)
    assert storage.calls == ["infos"]
    await storage.delegate.invalidate(id)
    notice(storage, None)
    for each in first:
        await ended(each)
    assert not any(each.task.done() for each in others)
    assert len(_watchers) == 1


async def test_questions_are_asked_in_batches(storage: SpyStorage, connect: Opener) -> None:
    asked: list[int] = []

    class Counting(SpyStorage):
        async def infos(self, keys: Any) -> dict[str, SessionInfo]:
            found = await super().infos(keys)
            asked.append(len(keys))
            return found

        async def successors(self, keys: Any) -> dict[str, Successor]:
            found = await super().successors(keys)
            asked.append(-len(keys))
            return found

    counting = process(Counting(storage.delegate))
    opened = [await connect(counting, await begin(counting, "7", a=1), NEVER) for _ in range(BATCH + 10)]
    notice(counting.storage, None)
    await until(lambda: len(asked) == 2)
    assert asked == [BATCH, 10]
    await storage.delegate.revoke("7")
    notice(counting.storage, None)
    for each in opened:
        await ended(each)
    assert asked[2:] == [BATCH, -BATCH, 10, -10]


async def test_expiry_is_noticed_between_two_questions(
    storage: SpyStorage, one: SessionManager, connect: Opener, clock: ManualClock
) -> None:
    id = await begin(one, a=1)
    await storage.delegate.touch(id, ttl=100)
    await storage.delegate.write_bytes(id, b'{"a": 1}', ttl=100)
    connection = await connect(one, id, NEVER)
    clock.advance(99)
    storage.calls.clear()
    await asyncio.sleep(1.2)
    assert storage.calls == []
    clock.advance(1)
    await ended(connection)


async def test_expiry_ends_a_connection_also_without_the_storage(
    storage: SpyStorage, one: SessionManager, connect: Opener, clock: ManualClock
) -> None:
    id = await begin(one, a=1)
    await storage.delegate.write_bytes(id, b'{"a": 1}', ttl=100)
    connection = await connect(one, id, NEVER)
    storage.down = True
    clock.advance(100)
    await ended(connection)


async def test_a_session_that_was_extended_meanwhile_has_not_expired(
    storage: SpyStorage, one: SessionManager, connect: Opener, clock: ManualClock
) -> None:
    id = await begin(one, a=1)
    await storage.delegate.write_bytes(id, b'{"a": 1}', ttl=100)
    connection = await connect(one, id, NEVER)
    clock.advance(50)
    await storage.delegate.touch(id)
    clock.advance(60)
    await asked_again(storage, times=1)
    storage.calls.clear()
    await asyncio.sleep(1.2)
    assert storage.calls == []
    assert not connection.task.done()
    clock.advance(50)
    await ended(connection)


async def test_a_notice_costs_what_it_is_about(
    storage: SpyStorage, one: SessionManager, connect: Opener
) -> None:
    """However many connections there are: none but those of its session is looked at."""
    noticed = await connect(one, id := await begin(one, a=1), NEVER)
    other = await connect(one, await begin(one, a=1), NEVER)
    [watcher] = _watchers.values()

    class Watches(dict[Any, None]):
        def __iter__(self) -> Any:
            raise AssertionError("all connections are looked at")

    watcher._watches = Watches(watcher._watches)
    try:
        await storage.delegate.write_bytes(id, b'{"a": 2}')
        assert noticed.session.info is not None
        notice(storage, [noticed.session.info.key])
        await asked_again(storage, times=1)
        await storage.delegate.invalidate(id)
        notice(storage, [noticed.session.info.key])
        await ended(noticed)
    finally:
        watcher._watches = dict(dict.items(watcher._watches))
    assert not other.task.done()


async def test_sessions_that_are_extended_and_connections_that_close_leave_nothing(
    storage: SpyStorage, one: SessionManager
) -> None:
    session = await read(one, await begin(one, a=1))
    watcher = Watcher(storage)
    watches = [Watch(session, NEVER, lambda: None) for _ in range(1000)]
    for watch in watches:
        watcher._await_expiry(watch)
        watcher._watches[watch] = None
    for time in range(5000):
        watches[0].expires_at = time
        watcher._await_expiry(watches[0])
    assert len(watcher._expiries) < 2100
    for watch in watches:
        watcher.discard(watch)
    assert len(watcher._expiries) < 100
    assert not any(expiry[2].awaited for expiry in watcher._expiries)


async def test_its_own_login_ends_no_connection(
    storage: SpyStorage, one: SessionManager, connect: Opener
) -> None:
    connection = await connect(one, await begin(one, a=1))
    connection.session.subject = "7"
    await asked_again(storage)
    await one.commit(connection.session)
    await asked_again(storage)
    assert not connection.task.done()
    await storage.delegate.revoke("7")
    await ended(connection)


async def test_its_own_logout_ends_a_connection(
    storage: SpyStorage, one: SessionManager, connect: Opener
) -> None:
    connection = await connect(one, await begin(one, "7", a=1))
    connection.session.invalidate()
    await one.commit(connection.session)
    await ended(connection)


async def test_a_login_of_a_visitor_ends_the_visitor_s_connections(
    one: SessionManager, other: SessionManager, connect: Opener
) -> None:
    id = await begin(one, a=1)
    connection = await connect(one, id)
    session = await read(other, id)
    session.subject = "7"
    await other.commit(session)
    await ended(connection)


class Plain(SpyStorage):
    """A storage that knows sessions by their ids only."""

    infos = ManagedSessionStorage.infos
    successors = ManagedSessionStorage.successors
    load_key = ManagedSessionStorage.load_key
    write_key = ManagedSessionStorage.write_key


async def test_a_storage_without_questions_by_key(storage: SpyStorage, connect: Opener) -> None:
    plain = Plain(storage.delegate)
    manager = process(plain)
    id = await begin(manager, "7", a=1)
    connection, other = await connect(manager, id), await connect(manager, await begin(manager, a=1))
    await storage.delegate.rotate(id, moved := new_session_id())
    await asked_again(plain, "info", times=4)
    assert not connection.task.done()
    await storage.delegate.invalidate(moved)
    await ended(connection)
    assert not other.task.done()


class Telling(SessionStorageMemory):
    """A storage that tells of sessions that were ended."""

    def __init__(self) -> None:
        super().__init__()
        self.callbacks: list[Callable[[Collection[str] | None], None]] = []

    def subscribe(self, callback: Callable[[Collection[str] | None], None]) -> Callable[[], None]:
        self.callbacks.append(callback)
        return lambda: self.callbacks.remove(callback)


@pytest.mark.parametrize("all_keys", [False, True])
async def test_a_notice_of_the_storage_is_heard_at_once(connect: Opener, all_keys: bool) -> None:
    telling = Telling()
    storage = SpyStorage(telling)
    manager = process(storage)
    id = await begin(manager, "7", a=1)
    connection = await connect(manager, id, NEVER)
    await until(lambda: telling.callbacks)
    await telling.invalidate(id)
    storage.calls.clear()
    [tell] = telling.callbacks
    tell(["0" * 64])
    await asyncio.sleep(OFTEN)
    assert storage.calls == []
    assert connection.session.info is not None
    keys = None if all_keys else [connection.session.info.key]
    await asyncio.to_thread(tell, keys)
    await ended(connection)
    await until(lambda: not telling.callbacks)


async def test_a_closed_storage_is_asked_no_more(connect: Opener) -> None:
    storage = SqlSessionStorage("sqlite+aiosqlite://")
    manager = process(storage)
    connection = await connect(manager, await begin(manager, a=1))
    await storage.aclose()
    await until(lambda: not _watchers)
    assert not connection.task.done()


def test_several_event_loops(storage: SpyStorage) -> None:
    """Each has a task of its own."""
    manager = process(storage)
    ready = threading.Barrier(3)

    async def serve(id: str) -> None:
        connection = Connection(manager, await read(manager, id), OFTEN)
        await connection.opened.wait()
        await asyncio.to_thread(ready.wait, LIMIT)
        await ended(connection)

    async def prepare() -> list[str]:
        return [await begin(manager, "7", a=1) for _ in range(2)]

    async def finish() -> None:
        await asyncio.to_thread(ready.wait, LIMIT)
        assert len(_watchers) == 2
        await storage.delegate.revoke("7")

    ids = asyncio.run(prepare())
    threads = [threading.Thread(target=asyncio.run, args=(serve(id),)) for id in ids]
    for thread in threads:
        thread.start()
    asyncio.run(finish())
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    asyncio.run(storage.aclose())
    assert not [key for key in _watchers if not key[0].is_closed()]
