"""A rotation moves a session to a new id, whole and at once."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from .. import ManagedSessionStorage, SessionConflict, SessionInfo, SessionNotFound
from ._base import PATIENCE, Contract, Pause, listed, small_and_large, state
from .clock import ManualClock


class Rotation(Contract):
    @small_and_large
    async def test_a_rotation_changes_the_key_and_nothing_else(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str
    ) -> None:
        written = await managed.write_bytes("id", self.blob(size), ttl=100, max_age=500, subject="ann")
        await managed.load("id")
        clock.advance(30)
        rotated = await managed.rotate("id", "new")
        assert rotated == replace(written, key=managed.digest("new").hex())
        assert await state(managed, "new") == (self.blob(size), rotated)
        assert await listed(managed) == await listed(managed, "ann") == [rotated]
        assert await managed.info("id") is None
        with pytest.raises(SessionNotFound):
            await managed.read_bytes("id")

    @small_and_large
    async def test_a_rotated_session_keeps_its_timeouts_and_version(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str
    ) -> None:
        written = await managed.write_bytes("id", self.blob(size), ttl=100, max_age=500)
        await managed.rotate("id", "new")
        clock.advance(90)
        rewritten = await managed.write_bytes("new", b"2", if_match=written.version)
        assert rewritten.expires_at == clock.now + timedelta(seconds=100)
        assert await managed.touch("new", ttl=None) == replace(
            rewritten, expires_at=written.created_at + timedelta(seconds=500)
        )

    @pytest.mark.parametrize("new", ["small", "large"])
    @pytest.mark.parametrize("old", ["small", "large"])
    async def test_the_old_id_can_be_used_afresh(
        self, managed: ManagedSessionStorage, old: str, new: str
    ) -> None:
        await managed.write_bytes("id", self.blob(old, 1))
        rotated = await managed.rotate("id", "new")
        await managed.write_bytes("id", self.blob(new, 2), if_match=0)
        assert await state(managed, "new") == (self.blob(old, 1), rotated)
        assert await managed.read_bytes("id") == self.blob(new, 2)
        await managed.invalidate("id")
        assert await managed.read_bytes("new") == self.blob(old, 1)
        assert await managed.rotate("new", "id") == replace(rotated, key=managed.digest("id").hex())
        assert await managed.read_bytes("id") == self.blob(old, 1)

    @small_and_large
    async def test_a_rotation_to_a_taken_id_changes_nothing(
        self, managed: ManagedSessionStorage, size: str
    ) -> None:
        await managed.write_bytes("id", self.blob(size, 1))
        await managed.write_bytes("taken", self.blob(size, 2))
        before = [await state(managed, id) for id in ("id", "taken")]
        for new_id in ("taken", "id"):
            with pytest.raises(SessionConflict):
                await managed.rotate("id", new_id)
        with pytest.raises(SessionNotFound):
            await managed.rotate("missing", "free")
        assert [await state(managed, id) for id in ("id", "taken")] == before
        assert await managed.info("free") is None

    @pytest.mark.parametrize("ended", ["invalidated", "expired"])
    @pytest.mark.parametrize("old", ["small", "large"])
    @small_and_large
    async def test_a_rotation_to_the_id_of_an_ended_session_works(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str, old: str, ended: str
    ) -> None:
        await managed.write_bytes("new", self.blob(old, 1), ttl=10, subject="bob")
        if ended == "invalidated":
            await managed.invalidate("new")
        await managed.write_bytes("id", self.blob(size, 2), ttl=1000)
        clock.advance(10)
        rotated = await managed.rotate("id", "new")
        assert rotated.subject is None
        await managed.purge()
        assert await state(managed, "new") == (self.blob(size, 2), rotated)

    @pytest.mark.parametrize("round", range(3))
    @small_and_large
    async def test_one_session_cannot_be_rotated_to_two_ids(
        self, managed: ManagedSessionStorage, size: str, round: int
    ) -> None:
        await managed.write_bytes("id", self.blob(size, round))
        new_ids = [f"new {number}" for number in range(5)]
        async with asyncio.timeout(PATIENCE):
            results = await asyncio.gather(
                *(managed.rotate("id", new_id) for new_id in new_ids), return_exceptions=True
            )
        won = [result for result in results if isinstance(result, SessionInfo)]
        assert len(won) == 1
        assert all(isinstance(result, SessionNotFound | SessionInfo) for result in results)
        assert await listed(managed) == won
        assert await managed.read_bytes(new_ids[results.index(won[0])]) == self.blob(size, round)

    @pytest.mark.parametrize("round", range(3))
    @small_and_large
    async def test_two_sessions_cannot_be_rotated_to_one_id(
        self, managed: ManagedSessionStorage, size: str, round: int
    ) -> None:
        ids = [f"id {number}" for number in range(5)]
        for seed, id in enumerate(ids):
            await managed.write_bytes(id, self.blob(size, seed + round))
        async with asyncio.timeout(PATIENCE):
            results = await asyncio.gather(*(managed.rotate(id, "new") for id in ids), return_exceptions=True)
        assert sum(isinstance(result, SessionInfo) for result in results) == 1
        for seed, (id, result) in enumerate(zip(ids, results, strict=True)):
            assert isinstance(result, SessionConflict | SessionInfo)
            now_at = "new" if isinstance(result, SessionInfo) else id
            assert await managed.read_bytes(now_at) == self.blob(size, seed + round)

    @small_and_large
    async def test_a_reader_goes_on_across_a_rotation(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str
    ) -> None:
        await managed.write_bytes("id", self.blob(size, 1))
        pause = Pause()
        task = await pause.start(managed.read("id", pause.reading))
        await managed.rotate("id", "new")
        await managed.write_bytes("id", self.blob(size, 2))
        clock.advance(59)
        await managed.purge()
        assert await pause.finish(task) == self.blob(size, 1)

    @pytest.mark.parametrize("new", ["small", "large"])
    async def test_a_write_under_way_does_not_follow_a_rotation(
        self, managed: ManagedSessionStorage, new: str
    ) -> None:
        """Its id is the old one, which then names a session of its own, or nothing if conditional."""
        written = await managed.write_bytes("id", b"old")
        pauses = Pause(), Pause()
        plain = await pauses[0].start(managed.write("id", pauses[0].providing(self.blob(new, 1))))
        conditional = await pauses[1].start(
            managed.write("id", pauses[1].providing(self.blob(new, 2)), if_match=written.version)
        )
        rotated = await managed.rotate("id", "new")
        with pytest.raises(SessionConflict):
            await pauses[1].finish(conditional)
        assert await managed.info("id") is None
        await pauses[0].finish(plain)
        assert await managed.read_bytes("id") == self.blob(new, 1)
        assert await state(managed, "new") == (b"old", rotated)
