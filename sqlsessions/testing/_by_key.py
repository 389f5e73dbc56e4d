"""Contract: finding sessions by key, and where a session went whose id was changed."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from .. import InvalidArgument, ManagedSessionStorage, SessionConflict, UnsupportedOperation, new_session_id
from ._base import Contract, by_size
from .clock import ManualClock

NO_KEYS = ["", "no key", "ab" * 31, "ab" * 33]


class ByKey(Contract):
    """What a storage offers to code that knows a session's key and not its id. A storage may refuse all of it."""

    @pytest_asyncio.fixture(loop_scope="function")
    async def keyed(self, managed: ManagedSessionStorage) -> ManagedSessionStorage:
        """The storage under test, if it finds sessions by key."""
        try:
            await managed.infos([])
        except UnsupportedOperation as error:
            pytest.skip(str(error))
        return managed

    async def test_infos_of_keys(self, keyed: ManagedSessionStorage, clock: ManualClock) -> None:
        infos = [await keyed.write_bytes(f"id {number}", b"data", subject="alice") for number in range(5)]
        short = await keyed.write_bytes("short", b"data", ttl=10)
        await keyed.invalidate("id 0")
        clock.advance(11)
        keys = [info.key for info in [*infos, short]]
        found = await keyed.infos([*keys, *NO_KEYS])
        assert found == {info.key: info for info in infos[1:]}

    async def test_infos_of_many_keys(self, keyed: ManagedSessionStorage) -> None:
        written = await asyncio.gather(*(keyed.write_bytes(f"id {number}", b"") for number in range(600)))
        infos = {info.key: info for info in written}
        assert await keyed.infos(list(infos)) == infos
        assert await keyed.infos([]) == {}

    @by_size
    async def test_load_and_write_by_key(self, keyed: ManagedSessionStorage, size: str) -> None:
        info = await keyed.write_bytes("id", b"before", subject="alice", ttl=100)
        written = await keyed.write_key(info.key, self.blob(size), if_match=info.version)
        snapshot = await keyed.load_key(info.key)
        assert snapshot is not None
        assert snapshot.data == self.blob(size)
        assert snapshot == await keyed.load("id")
        assert snapshot.info == written
        assert (written.subject, written.created_at) == ("alice", info.created_at)

    async def test_a_write_by_key_needs_the_live_version(
        self, keyed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        old = await keyed.write_bytes("id", b"old", ttl=10)
        new = await keyed.write_bytes("id", b"new")
        with pytest.raises(SessionConflict):
            await keyed.write_key(old.key, b"by key", if_match=old.version)
        assert await keyed.read_bytes("id") == b"new"
        clock.advance(11)
        with pytest.raises(SessionConflict):
            await keyed.write_key(new.key, b"by key", if_match=new.version)
        assert await keyed.load("id") is None

    @pytest.mark.parametrize("if_match", [0, -1])
    async def test_a_write_by_key_begins_no_session(
        self, keyed: ManagedSessionStorage, if_match: int
    ) -> None:
        info = await keyed.write_bytes("id", b"data")
        await keyed.invalidate("id")
        with pytest.raises(InvalidArgument):
            await keyed.write_key(info.key, b"by key", if_match=if_match)
        with pytest.raises(SessionConflict):
            await keyed.write_key(info.key, b"by key", if_match=info.version)
        assert await keyed.load("id") is None

    async def test_what_is_no_key_finds_nothing(self, keyed: ManagedSessionStorage) -> None:
        for key in NO_KEYS:
            assert await keyed.load_key(key) is None
            with pytest.raises(SessionConflict):
                await keyed.write_key(key, b"data", if_match=1)

    async def test_a_cached_session_is_written_by_key(self, keyed: ManagedSessionStorage) -> None:
        info = await keyed.write_bytes("id", b"before")
        assert await keyed.read_bytes("id") == b"before"
        await keyed.write_key(info.key, b"after", if_match=info.version)
        assert await keyed.read_bytes("id") == b"after"

    async def test_a_moved_id_leads_to_its_successor(self, managed: ManagedSessionStorage) -> None:
        first, second, third = (new_session_id() for _ in range(3))
        await managed.write_bytes(first, b"data", subject="alice")
        assert await managed.successor(first) is None
        await managed.rotate(first, second)
        if (found := await managed.successor(first)) is None:
            pytest.skip(f"{type(managed).__name__} does not know where sessions went")
        assert found.info == await managed.info(second)
        assert await managed.successor(second) is None
        info = await managed.rotate(second, third)
        for id in (first, second):
            found = await managed.successor(id)
            assert found is not None
            assert (found.key, found.info) == (info.key, await managed.info(third))
            assert await managed.load(id) is None

    async def test_successors_of_keys(self, keyed: ManagedSessionStorage, clock: ManualClock) -> None:
        before = [await keyed.write_bytes(f"id {number}", b"data", subject="alice") for number in range(4)]
        keys = [info.key for info in before]
        try:
            assert await keyed.successors([*keys, *NO_KEYS]) == {}
        except UnsupportedOperation as error:
            pytest.skip(str(error))
        await keyed.rotate("id 0", "once")
        await keyed.rotate("id 1", "first")
        twice = await keyed.rotate("first", "twice")
        gone = await keyed.rotate("id 2", "gone")
        await keyed.invalidate("gone")
        found = await keyed.successors([*keys, *NO_KEYS])
        assert set(found) == set(keys[:3])
        for key, id in zip(keys, ("id 0", "id 1", "id 2"), strict=False):
            successor = await keyed.successor(id)
            assert successor is not None
            assert (found[key].key, found[key].info) == (successor.key, successor.info)
        assert (found[keys[1]].key, found[keys[2]].key) == (twice.key, gone.key)
        assert await keyed.successors([twice.key]) == {}
        clock.advance(61)
        assert await keyed.successors(keys) == {}

    async def test_successors_of_many_keys(self, keyed: ManagedSessionStorage) -> None:
        old = await asyncio.gather(*(keyed.write_bytes(f"id {number}", b"") for number in range(300)))
        new = await asyncio.gather(
            *(keyed.rotate(f"id {number}", f"moved {number}") for number in range(300))
        )
        keys = {before.key: after.key for before, after in zip(old, new, strict=True)}
        try:
            found = await keyed.successors(list(keys))
        except UnsupportedOperation as error:
            pytest.skip(str(error))
        assert {key: successor.key for key, successor in found.items()} == keys
        assert all(successor.info is not None for successor in found.values())

    async def test_the_successor_may_have_ended(self, managed: ManagedSessionStorage) -> None:
        await managed.write_bytes("old", b"data")
        info = await managed.rotate("old", "new")
        await managed.invalidate("new")
        found = await managed.successor("old")
        assert found is None or (found.key, found.info) == (info.key, None)

    async def test_a_move_there_and_back(self, managed: ManagedSessionStorage) -> None:
        await managed.write_bytes("one", b"data")
        await managed.rotate("one", "two")
        info = await managed.rotate("two", "one")
        found = await managed.successor("two")
        assert found is None or found.key == info.key

    async def test_an_id_that_is_moved_from_twice(self, managed: ManagedSessionStorage) -> None:
        await managed.write_bytes("old", b"first")
        await managed.rotate("old", "one")
        await managed.write_bytes("old", b"second")
        info = await managed.rotate("old", "two")
        found = await managed.successor("old")
        assert found is None or found.key == info.key

    async def test_a_move_is_known_for_a_minute(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        await managed.write_bytes("old", b"data")
        await managed.rotate("old", "new")
        if await managed.successor("old") is None:
            pytest.skip(f"{type(managed).__name__} does not know where sessions went")
        clock.advance(59)
        await managed.purge()
        assert await managed.successor("old") is not None
        clock.advance(60)
        assert await managed.successor("old") is None
        await managed.purge()
        assert await managed.successor("old") is None

    async def test_ids_that_were_not_moved_or_ended_have_no_successor(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        await managed.write_bytes("live", b"data")
        await managed.write_bytes("expired", b"data", ttl=1)
        clock.advance(2)
        await managed.invalidate("expired")
        for id in ("live", "expired", "never"):
            assert await managed.successor(id) is None

    @pytest.mark.parametrize("size", [1, 100_000])
    async def test_that_a_session_was_ended_is_known_for_a_minute(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: int
    ) -> None:
        keys = {}
        for id in ("invalidated", "by key"):
            keys[id] = (await managed.write_bytes(id, b"d" * size, subject="alice")).key
        await managed.invalidate("invalidated")
        await managed.invalidate_key(keys["by key"])
        await managed.write_bytes("revoked", b"data", subject="alice")
        await managed.revoke("alice")
        assert await managed.successor("revoked") is None
        if await managed.successor("invalidated") is None:
            pytest.skip(f"{type(managed).__name__} does not know which sessions were ended")
        ended = clock()
        clock.advance(59)
        await managed.purge()
        for id, key in keys.items():
            found = await managed.successor(id)
            assert found is not None
            assert (found.key, found.info) == (key, None)
            assert found.since is not None
            assert abs(found.since.timestamp() - ended) < 1
        clock.advance(2)
        for id in keys:
            assert await managed.successor(id) is None

    async def test_revoking_keeps_a_session_whose_id_was_changed(
        self, managed: ManagedSessionStorage
    ) -> None:
        for id in ("own", "other", "another"):
            await managed.write_bytes(id, b"data", subject="alice")
        for id, new_id in (("own", "own 2"), ("own 2", "own 3"), ("other", "other 2")):
            await managed.rotate(id, new_id)
        if await managed.successor("own") is None:
            pytest.skip(f"{type(managed).__name__} does not know where sessions went")
        assert await managed.revoke("alice", keep="own") == 2
        assert await managed.info("own 3") is not None
        assert [info.key async for info in managed.sessions("alice")] == [
            (await managed.load("own 3")).info.key  # type: ignore[union-attr]
        ]

    async def test_an_id_that_is_used_again_has_not_ended(self, managed: ManagedSessionStorage) -> None:
        for _ in range(2):
            await managed.write_bytes("id", b"data")
            assert await managed.successor("id") is None
            await managed.invalidate("id")
            assert await managed.load("id") is None
        await managed.write_bytes("id", b"data")
        await managed.rotate("id", "new")
        found = await managed.successor("id")
        assert found is None or found.info == await managed.info("new")
