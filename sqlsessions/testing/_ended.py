"""Contract: the records of sessions that have ended, in storages that keep them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from .. import (
    EndedSession,
    InvalidArgument,
    InvalidArgumentType,
    KeepsEnded,
    ManagedSessionStorage,
    SessionConflict,
    SessionNotFound,
    UnsupportedOperation,
)
from ._base import Contract, small_and_large
from .clock import ManualClock

CLIENT = {"address": "192.0.2.7", "user_agent": 'B\u00f6rk/\U0001f600 "1"'}
ALIKE = ["ann", "Ann", "ann ", "\u00e0nn", "a\u0300nn"]


async def ended(
    storage: ManagedSessionStorage, subject: str | None = None, **options: Any
) -> list[EndedSession]:
    """The records of a storage."""
    assert isinstance(storage, KeepsEnded)
    return [each async for each in storage.ended(subject, **options)]


class Ended(Contract):
    """Records of ended sessions. A storage may keep none."""

    @pytest_asyncio.fixture(loop_scope="function")
    async def keeping(self, managed: ManagedSessionStorage) -> ManagedSessionStorage:
        """The storage under test, if it can keep records."""
        if not isinstance(managed, KeepsEnded):
            pytest.skip(f"{type(managed).__name__} is no KeepsEnded")
        try:
            await ended(managed)
        except UnsupportedOperation as error:
            pytest.skip(str(error))
        return managed

    @pytest.fixture
    def kept(self, keeping: ManagedSessionStorage) -> ManagedSessionStorage:
        """The storage under test, if it was asked to keep them."""
        if self.keep_ended is None:
            pytest.skip(f"{type(self).__name__} sets no keep_ended")
        return keeping

    async def test_nothing_is_kept_unless_asked_for(
        self, keeping: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        if self.keep_ended is not None:
            pytest.skip("it was asked for")
        for number in range(3):
            await keeping.write_bytes(f"id {number}", b"data", subject="ann", ttl=10)
        await keeping.invalidate("id 0")
        assert await keeping.revoke("ann", keep="id 1") == 1
        clock.advance(11)
        assert await keeping.purge() == 1
        assert await ended(keeping) == []

    @small_and_large
    async def test_each_end_leaves_a_record(
        self, kept: ManagedSessionStorage, clock: ManualClock, size: str
    ) -> None:
        async def by_id() -> None:
            await kept.invalidate("id")

        async def by_key() -> None:
            assert await kept.invalidate_key(info.key)

        async def by_subject() -> None:
            assert await kept.revoke("ann") == 1

        async def by_label() -> None:
            assert await kept.revoke_label("a") == 1

        async def all_() -> None:
            assert await kept.revoke_all() == 1

        ends: list[tuple[Callable[[], Awaitable[None]], str]] = [
            (by_id, "ended"), (by_key, "revoked"), (by_subject, "revoked"), (by_label, "revoked"), (all_, "revoked"),
        ]  # fmt: skip
        expected: list[EndedSession] = []
        for end, reason in ends:
            info = await kept.write_bytes(
                "id", self.blob(size), subject="ann", client=CLIENT, labels=["a"], ttl=99
            )
            clock.advance(50)
            touched = await kept.touch("id")
            assert touched is not None
            assert await ended(kept) == expected
            clock.advance(1)
            await end()
            now = info.created_at + timedelta(seconds=51)
            used = touched.used_at or info.updated_at
            expected.insert(0, EndedSession(info.key, reason, now, info.created_at, used, "ann", CLIENT))  # type: ignore[arg-type]
            assert await ended(kept) == await ended(kept, "ann") == expected
        with pytest.raises(SessionNotFound):
            await kept.read_bytes("id")

    @small_and_large
    async def test_an_expired_session_ended_when_it_expired(
        self, kept: ManagedSessionStorage, clock: ManualClock, size: str
    ) -> None:
        info = await kept.write_bytes("id", self.blob(size), ttl=10)
        await kept.write_bytes("other", b"data", ttl=100)
        clock.advance(20)
        await kept.invalidate("id")
        assert not await kept.invalidate_key(info.key)
        assert await ended(kept) == []
        assert await kept.purge() == 1
        assert info.expires_at is not None
        record = EndedSession(info.key, "expired", info.expires_at, info.created_at, info.updated_at, None)
        assert await ended(kept) == [record]
        assert await kept.purge() == 0
        assert await ended(kept) == [record]

    @small_and_large
    async def test_a_rotation_and_a_write_end_nothing(self, kept: ManagedSessionStorage, size: str) -> None:
        info = await kept.write_bytes("id", self.blob(size), subject="ann")
        await kept.write_bytes("id", self.blob(size, 1), subject="bob")
        with pytest.raises(SessionConflict):
            await kept.write_bytes("id", b"new", if_match=info.version)
        moved = await kept.rotate("id", "new")
        await kept.invalidate("id")
        assert await kept.revoke("ann") == 0
        assert await ended(kept) == []
        assert await kept.revoke("bob", keep="id") == 0
        await kept.invalidate("new")
        [record] = await ended(kept)
        assert (record.key, record.subject, record.reason) == (moved.key, "bob", "ended")
        await kept.invalidate("new")
        assert await ended(kept) == [record]

    async def test_a_session_to_keep_leaves_no_record(self, kept: ManagedSessionStorage) -> None:
        infos = [await kept.write_bytes(f"id {number}", b"data", subject="ann") for number in range(3)]
        assert await kept.revoke("ann", keep="id 1") == 2
        assert {each.key for each in await ended(kept)} == {infos[0].key, infos[2].key}

    async def test_records_are_those_of_one_subject(self, kept: ManagedSessionStorage) -> None:
        for subject in ALIKE:
            await kept.write_bytes(f"id of {subject}", b"data", subject=subject)
        await kept.write_bytes("id", b"data")
        assert await kept.revoke_all() == len(ALIKE) + 1
        for subject in ALIKE:
            assert [each.subject for each in await ended(kept, subject)] == [subject]
        assert await ended(kept, "nobody") == []
        assert isinstance(kept, KeepsEnded)
        assert await kept.forget_ended("ann") == 1
        assert await kept.forget_ended("ann") == 0
        assert await ended(kept, "ann") == []
        assert {each.subject for each in await ended(kept)} == {*ALIKE[1:], None}

    @small_and_large
    async def test_what_is_forgotten_are_records_and_expired_sessions(
        self, kept: ManagedSessionStorage, clock: ManualClock, size: str
    ) -> None:
        await kept.write_bytes("id", self.blob(size), subject="ann")
        await kept.write_bytes("ended", self.blob(size), subject="ann")
        await kept.invalidate("ended")
        await kept.write_bytes("expired", self.blob(size), subject="ann", ttl=10)
        clock.advance(11)
        assert isinstance(kept, KeepsEnded)
        assert await kept.forget_ended("ann") == 1
        assert await kept.purge() == 0
        assert await ended(kept) == []
        assert await kept.read_bytes("id") == self.blob(size)

    async def test_many_records_are_listed_once_each_the_last_end_first(
        self, kept: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        keys = {
            (await kept.write_bytes(f"id {number}", b"", subject="ann")).key for number in range(self.many)
        }
        assert await kept.revoke("ann") == self.many
        clock.advance(1)
        last = await kept.write_bytes("id", b"", subject="ann")
        await kept.invalidate("id")
        for found in (await ended(kept), await ended(kept, "ann")):
            assert found[0].key == last.key
            assert len(found) == self.many + 1
            assert {each.key for each in found[1:]} == keys
            assert found == sorted(found, key=lambda each: (each.ended_at, each.key), reverse=True)

    async def test_since_gives_those_that_ended_then_or_later(
        self, kept: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        keys = []
        for number in range(3):
            clock.advance(1)
            info = await kept.write_bytes(f"id {number}", b"", subject="ann")
            await kept.invalidate(f"id {number}")
            keys.append(info.key)
        for subject in (None, "ann"):
            found = await ended(kept, subject)
            assert [each.key for each in found] == keys[::-1]
            assert await ended(kept, subject, since=found[1].ended_at) == found[:2]
            just_after = found[0].ended_at + timedelta(microseconds=1)
            assert await ended(kept, subject, since=just_after) == []

    async def test_a_purge_deletes_records_once_their_time_is_over(
        self, kept: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        assert self.keep_ended is not None
        await kept.write_bytes("id", b"data", subject="ann")
        await kept.invalidate("id")
        clock.advance(self.keep_ended - 1)
        other = await kept.write_bytes("other", b"data", ttl=self.keep_ended)
        await kept.invalidate("other")
        assert await kept.purge() == 0
        assert len(await ended(kept)) == 2
        clock.advance(1)
        assert await kept.purge() == 0
        assert [each.key for each in await ended(kept)] == [other.key]

    async def test_what_can_be_no_argument_is_refused(self, keeping: ManagedSessionStorage) -> None:
        naive = datetime(2030, 1, 1)  # noqa: DTZ001 (that is what is refused)
        refused: list[tuple[dict[str, Any], type[Exception]]] = [({"since": naive}, InvalidArgument)]
        refused += [({"since": value}, InvalidArgumentType) for value in (5, "2030-01-01")]
        refused += [({"subject": text}, InvalidArgument) for text in ("", "x" * 256, "a\0b")]
        refused += [({"subject": value}, InvalidArgumentType) for value in (5, b"ann")]
        for arguments, error in refused:
            with pytest.raises(error):
                await ended(keeping, **arguments)
