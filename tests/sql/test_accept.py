"""Sessions that are kept under other keys or in other namespaces: they are found, and move."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from sqlsessions import (
    CacheStorage,
    EncryptedStorage,
    InvalidArgument,
    InvalidArgumentType,
    ManagedSessionStorage,
    SessionConflict,
    SessionNotFound,
    SqlSessionStorage,
)
from sqlsessions.info import Rebinding
from sqlsessions.testing import ManualClock, StorageContract

from .support import TINY, each_database, query, sqlite

KEY, OTHER = secrets.token_bytes(32), secrets.token_bytes(32)
BEFORE: dict[str, dict[str, Any]] = {
    "plain": {},
    "another namespace": {"namespace": "old", "keys": [OTHER]},
}
AFTER: dict[str, Any] = {"namespace": "shop", "keys": [KEY], "accept": [(None, None), ("old", [OTHER])]}


@pytest.mark.variant
class TestAccepting(StorageContract):
    """The contract, of a storage that looks under other names as well."""

    async def create_storage(self, clock: ManualClock) -> ManagedSessionStorage:
        keyed = SqlSessionStorage("sqlite://", clock=clock, **AFTER)
        return CacheStorage(EncryptedStorage(keyed, [KEY]))


class Both:
    """A storage of before and one of after, on one database."""

    def __init__(self, before: SqlSessionStorage, after: SqlSessionStorage, url: str) -> None:
        self.before, self.after, self.url = before, after, url

    async def kept(self) -> list[str]:
        """The keys in the database."""
        return [bytes(row[0]).hex() for row in await query(self.url, "SELECT id FROM sessions ORDER BY id")]


@pytest.fixture(params=BEFORE)
async def both(request: pytest.FixtureRequest, sql_url: str, clock: ManualClock) -> AsyncIterator[Both]:
    async with AsyncExitStack() as stack:
        before, after = [
            await stack.enter_async_context(SqlSessionStorage(sql_url, clock=clock, **options, **TINY))
            for options in (BEFORE[request.param], AFTER)
        ]
        yield Both(before, after, sql_url)


@each_database
async def test_a_session_is_found_and_moves(both: Both, clock: ManualClock) -> None:
    for id, data in (("small", b"data"), ("large", b"data" * 50)):
        old = await both.before.write_bytes(id, data, subject="ann", ttl=100)
        clock.advance(1)
        snapshot = await both.after.load(id)
        assert snapshot is not None
        assert snapshot.data == data
        assert snapshot.info.key == both.after.digest(id).hex() != old.key
        assert (snapshot.info.version, snapshot.info.expires_at) == (old.version, old.expires_at)
        assert await both.before.load(id) is None
    assert len(await both.kept()) == 2


@each_database
async def test_every_operation_finds_it(both: Both, clock: ManualClock) -> None:
    operations: dict[str, Callable[[str], Awaitable[Any]]] = {
        "read": lambda id: both.after.read(id, lambda channel: channel.read()),
        "read_bytes": lambda id: both.after.read_bytes(id),
        "info": lambda id: both.after.info(id),
        "touch": lambda id: both.after.touch(id),
        "write": lambda id: both.after.write_bytes(id, b"new"),
        "rotate": lambda id: both.after.rotate(id, f"new {id}"),
    }
    for name, operation in operations.items():
        old = await both.before.write_bytes(name, b"data", subject="ann", ttl=1000)
        clock.advance(100)
        assert await operation(name)
        found = await both.after.info(f"new {name}" if name == "rotate" else name)
        assert found is not None
        assert (found.subject, found.created_at) == ("ann", old.created_at)
    assert len(await both.kept()) == len(operations)
    with pytest.raises(SessionNotFound):
        await both.after.read_bytes("rotate")
    assert (await both.after.successor("rotate")).key == both.after.digest("new rotate").hex()  # type: ignore[union-attr]


@each_database
async def test_conditions_count_a_session_that_has_not_moved(both: Both) -> None:
    old = await both.before.write_bytes("id", b"data")
    await both.before.write_bytes("taken", b"data")
    await both.after.write_bytes("other", b"data")
    with pytest.raises(SessionConflict):
        await both.after.write_bytes("id", b"new", if_match=0)
    with pytest.raises(SessionConflict):
        await both.after.rotate("other", "taken")
    assert (await both.after.write_bytes("id", b"new", if_match=old.version)).version > old.version


@each_database
async def test_it_ends_under_any_name(both: Both) -> None:
    for id in ("logout", "one", "two", "kept", "by key"):
        await both.before.write_bytes(id, b"data", subject=None if id == "logout" else "ann")
    await both.after.invalidate("logout")
    listed = [info.key async for info in both.after.sessions("ann")]
    assert len(listed) == 4
    assert await both.after.invalidate_key(both.before.digest("by key").hex())
    assert await both.after.revoke("ann", keep="kept") == 2
    assert await both.kept() == [both.before.digest("kept").hex()]
    assert await both.before.load("logout") is None


@each_database
async def test_of_two_sessions_under_one_id_the_storages_own_stays(both: Both) -> None:
    await both.after.write_bytes("id", b"new")
    await both.before.write_bytes("id", b"old")
    assert await both.after.read_bytes("id") == b"new"
    await both.after.invalidate("id")
    assert await both.kept() == []


@each_database
async def test_two_processes_with_different_keys_first_share_a_session(
    both: Both, clock: ManualClock
) -> None:
    options: dict[str, Any] = {"keys": [OTHER], "namespace": "old", "accept": [("shop", [KEY]), (None, None)]}
    async with SqlSessionStorage(both.url, clock=clock, **options, **TINY) as other:
        version = (await other.write_bytes("id", b"0")).version
        for number, storage in enumerate([both.after, other] * 3, 1):
            version = (await storage.write_bytes("id", b"%d" % number, if_match=version)).version
        assert await both.after.read_bytes("id") == b"6"
        # The other one takes it back between the look for it and the operation.
        found = both.after._repository.infos

        async def interrupted(digests: Any) -> Any:
            both.after._repository.infos = found  # type: ignore[method-assign]
            result = await found(digests)
            assert await other.read_bytes("id") == b"6"
            return result

        both.after._repository.infos = interrupted  # type: ignore[method-assign]
        assert await both.after.read_bytes("id") == b"6"
        await other.load("id")
        await both.after.invalidate("id")
        assert await both.kept() == []


@sqlite
async def test_what_is_encrypted_is_bound_to_the_new_name(both: Both) -> None:
    before = EncryptedStorage(both.before, [OTHER], encrypt_subjects=True)
    after = EncryptedStorage(both.after, [KEY, OTHER], encrypt_subjects=True)
    for id, data in (("small", b"data"), ("large", b"data" * 50_000)):
        await before.write_bytes(id, data, subject="ann")
        assert await after.read_bytes(id) == data
        snapshot = await after.load_key(after.digest(id).hex())
        assert snapshot is not None
        assert snapshot.data == data
    assert await EncryptedStorage(both.after, [KEY], encrypt_subjects=True).revoke("ann") == 2


@sqlite
async def test_a_hook_hears_of_no_move(sql_url: str, clock: ManualClock) -> None:
    heard: list[str] = []

    def hook(event: Any) -> None:
        heard.append(event.kind)

    async with (
        SqlSessionStorage(sql_url, clock=clock) as before,
        SqlSessionStorage(
            sql_url, clock=clock, keys=[KEY], accept=[(None, None)], on_created=hook, on_rotated=hook
        ) as after,
    ):
        await before.write_bytes("id", b"data")
        await after.write_bytes("id", b"new")
        assert heard == []


@sqlite
async def test_data_is_not_rebound_but_by_a_layer(both: Both) -> None:
    both.after.rebind_moved(lambda old, new: Rebinding(4, lambda head: bytes([old[0] ^ new[0]]) + head[1:]))
    await both.before.write_bytes("id", b"data")
    first = both.before.digest("id")[0] ^ both.after.digest("id")[0]
    assert await both.after.read_bytes("id") == bytes([first]) + b"ata"


@pytest.mark.parametrize(
    ("accept", "error", "message"),
    [
        ([(None, [KEY])], InvalidArgument, "other pairs than namespace and keys"),
        ([(None, None), (None, None)], InvalidArgument, "none twice"),
        ([None], InvalidArgumentType, "pairs of a namespace and keys"),
        ("shop", InvalidArgumentType, "must be a list of pairs, not str"),
        ([("", None)], InvalidArgument, "namespace must hold 1 to 255 characters"),
        ([(None, [b"short"])], InvalidArgument, "key 1 of keys must hold 32 bytes, not 5"),
    ],
)
def test_wrong_arguments(accept: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        SqlSessionStorage("sqlite://", keys=[KEY], accept=accept)
