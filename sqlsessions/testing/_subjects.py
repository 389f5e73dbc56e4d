"""Whose sessions: set, kept, listed and revoked; and sessions ended by their key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import product
from typing import Any

import pytest

from .. import (
    KEEP,
    InvalidArgument,
    InvalidArgumentType,
    ManagedSessionStorage,
    SessionConflict,
    SessionNotFound,
)
from ._base import NO_NAMES, PATIENCE, Contract, listed, small_and_large
from .clock import ManualClock

ALIKE = ["ann", "Ann", "ann ", " ann", "\u00e0nn", "a\u0300nn", "ann\u200b", "%", "a%", "_nn", "a", "1", "01"]


class Subjects(Contract):
    @small_and_large
    async def test_a_subject_is_set_kept_changed_and_cleared(
        self, managed: ManagedSessionStorage, size: str
    ) -> None:
        seen = []
        changes: list[dict[str, Any]] = [
            {}, {"subject": "ann"}, {}, {"subject": KEEP}, {"subject": "bob"}, {"subject": None}, {}
        ]  # fmt: skip
        for seed, change in enumerate(changes):
            info = await managed.write_bytes("id", self.blob(size, seed), **change)
            assert info == await managed.info("id")
            seen.append(info.subject)
            assert await listed(managed, "ann") == ([info] if info.subject == "ann" else [])
        assert seen == [None, "ann", "ann", "ann", "bob", None, None]

    async def test_subjects_that_look_alike_are_different(self, managed: ManagedSessionStorage) -> None:
        infos = {
            subject: await managed.write_bytes(f"id of {subject}", b"data", subject=subject)
            for subject in ALIKE
        }
        for subject in ALIKE:
            assert infos[subject].subject == subject
            assert await listed(managed, subject) == [infos[subject]]
        assert await managed.revoke("ann") == 1
        for subject in ALIKE[1:]:
            assert await listed(managed, subject) == [infos[subject]]

    @pytest.mark.parametrize("character", ["x", "\u00e9", "\U0001f600"])
    async def test_a_subject_holds_up_to_255_characters(
        self, managed: ManagedSessionStorage, character: str
    ) -> None:
        long = await managed.write_bytes("long", b"data", subject=character * 255)
        await managed.write_bytes("shorter", b"data", subject=character * 254)
        assert await listed(managed, character * 255) == [long]

    async def test_what_can_be_no_subject_is_refused(self, managed: ManagedSessionStorage) -> None:
        info = await managed.write_bytes("id", b"old", subject="ann")
        calls: list[Callable[[Any], Awaitable[Any]]] = [
            lambda subject: managed.write_bytes("id", b"new", subject=subject),
            lambda subject: managed.write_bytes("id", self.blob("large"), subject=subject),
            lambda subject: listed(managed, subject),
            managed.revoke,
        ]
        for (subject, error), call in product(NO_NAMES, calls):
            with pytest.raises(error, match="subject"):
                await call(subject)
        assert await listed(managed) == [info]

    async def test_the_sessions_of_a_subject_are_listed_newest_first(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        ids = [f"id {number}" for number in range(6)]
        for id in ids:
            await managed.write_bytes(id, b"1", ttl=100, subject="bob" if id == "id 3" else "ann")
            clock.advance(0.001)
        clock.advance(50)
        await managed.write_bytes("id 0", b"2")
        await managed.touch("id 1")
        await managed.invalidate("id 4")
        infos = [await managed.info(id) for id in ("id 5", "id 2", "id 1", "id 0")]
        assert await listed(managed, "ann") == infos
        clock.advance(60)
        assert await listed(managed, "ann") == infos[2:]
        assert await listed(managed, "nobody") == []

    async def test_all_live_sessions_are_listed_by_key(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        assert await listed(managed) == []
        for number in range(20):
            await managed.write_bytes(f"id {number}", b"data", ttl=10 + number % 2, subject="ann")
        await managed.invalidate("id 1")
        clock.advance(10)
        infos = [await managed.info(f"id {number}") for number in range(3, 20, 2)]
        assert await listed(managed) == sorted(filter(None, infos), key=lambda info: info.key)

    async def test_many_sessions_are_listed_once_each_and_revoked(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        infos = []
        for start in range(0, self.many, 50):
            infos += await asyncio.gather(
                *(managed.write_bytes(f"id {start + step}", b"data", subject="ann") for step in range(50))
            )
            clock.advance(0.5)
        other = await managed.write_bytes("other", b"data", subject="bob")
        assert await listed(managed) == sorted([*infos, other], key=lambda info: info.key)
        own = await listed(managed, "ann")
        assert [info.created_at for info in own] == sorted((info.created_at for info in infos), reverse=True)
        assert {info.key for info in own} == {info.key for info in infos}
        assert await managed.revoke("ann", keep="id 7") == self.many - 1
        assert await listed(managed, "ann") == [infos[7]]
        assert await listed(managed, "bob") == [other]

    async def test_sessions_can_be_ended_while_they_are_listed(self, managed: ManagedSessionStorage) -> None:
        for number in range(30):
            await managed.write_bytes(f"id {number}", b"data", subject="ann")
        async with asyncio.timeout(PATIENCE):
            async for _ in managed.sessions("ann"):
                await managed.write_bytes("other", b"data")
                break
            seen = set()
            async for info in managed.sessions("ann"):
                seen.add(info.key)
                assert await managed.invalidate_key(info.key)
        assert len(seen) == 30
        assert await listed(managed, "ann") == []

    @small_and_large
    async def test_revoke_ends_the_live_sessions_of_one_subject(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str
    ) -> None:
        await managed.write_bytes("expired", self.blob(size, 9), ttl=10, subject="ann")
        infos = [
            await managed.write_bytes(f"id {number}", self.blob(size, number), ttl=100, subject="ann")
            for number in range(3)
        ]
        for id, subject in ("bob's", "bob"), ("nobody's", None):
            await managed.write_bytes(id, b"data", ttl=100, subject=subject)
        clock.advance(10)
        for id in ("id 0", "id 1"):
            await managed.load(id)
        assert await managed.revoke("nobody") == 0
        assert await managed.revoke("ann") == 3
        assert await managed.revoke("ann") == 0
        for number in range(3):
            with pytest.raises(SessionNotFound):
                await managed.read_bytes(f"id {number}")
            with pytest.raises(SessionConflict):
                await managed.write_bytes(f"id {number}", b"back", if_match=infos[number].version)
        assert await managed.read_bytes("bob's") == await managed.read_bytes("nobody's") == b"data"

    @small_and_large
    async def test_revoke_spares_the_session_to_keep(self, managed: ManagedSessionStorage, size: str) -> None:
        for number in range(3):
            await managed.write_bytes(f"id {number}", self.blob(size, number), subject="ann")
        await managed.write_bytes("bob's", b"data", subject="bob")
        assert await managed.revoke("ann", keep="id 1") == 2
        assert await managed.read_bytes("id 1") == self.blob(size, 1)
        assert await managed.revoke("ann", keep="id 1") == 0
        assert await managed.revoke("ann", keep="bob's") == 1
        assert await managed.revoke("bob", keep="id 0") == 1
        assert await listed(managed) == []

    async def test_a_session_is_revoked_by_the_subject_it_has_now(
        self, managed: ManagedSessionStorage
    ) -> None:
        await managed.write_bytes("id", b"1", subject="ann")
        await managed.load("id")
        await managed.write_bytes("id", b"2", subject="bob")
        await managed.write_bytes("other", b"1", subject="ann")
        await managed.write_bytes("other", b"2", subject=None)
        assert await managed.revoke("ann") == 0
        assert await managed.read_bytes("id") == await managed.read_bytes("other") == b"2"
        assert await managed.revoke("bob") == 1

    @small_and_large
    async def test_a_key_ends_its_session_and_no_other(
        self, managed: ManagedSessionStorage, size: str
    ) -> None:
        info = await managed.write_bytes("id", self.blob(size))
        other = await managed.write_bytes("other", b"data")
        for key in ("", "zz", "id", info.key[:-1], info.key[:-2], info.key + "00", "0" * 64, "\u0661" * 64):
            assert not await managed.invalidate_key(key)
        with pytest.raises(InvalidArgumentType, match="key"):
            await managed.invalidate_key(bytes.fromhex(info.key))  # type: ignore[arg-type]
        assert await managed.info("id") == info
        assert await managed.invalidate_key(info.key)
        assert not await managed.invalidate_key(info.key)
        with pytest.raises(SessionNotFound):
            await managed.read_bytes("id")
        with pytest.raises(SessionConflict):
            await managed.write_bytes("id", self.blob(size), if_match=info.version)
        assert await listed(managed) == [other]

    @small_and_large
    async def test_every_session_is_ended(
        self, managed: ManagedSessionStorage, clock: ManualClock, size: str
    ) -> None:
        await managed.write_bytes("expired", self.blob(size), ttl=10)
        clock.advance(10)
        for number in range(3):
            await managed.write_bytes(
                f"id {number}", self.blob(size, number), subject="ann" if number else None
            )
            await managed.load(f"id {number}")
        assert await managed.revoke_all() == 3
        assert await managed.revoke_all() == 0
        assert await listed(managed) == []
        for number in range(3):
            with pytest.raises(SessionNotFound):
                await managed.read_bytes(f"id {number}")
        info = await managed.write_bytes("id 0", self.blob(size))
        assert await listed(managed) == [info]

    async def test_sessions_that_began_before_a_time_are_ended(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        await managed.write_bytes("old", b"data")
        clock.advance(10)
        info = await managed.write_bytes("new", b"data")
        await managed.write_bytes("old", b"more")
        assert await managed.revoke_all(info.created_at) == 1
        assert await listed(managed) == [info]
        with pytest.raises(InvalidArgument, match="before"):
            await managed.revoke_all(info.created_at.replace(tzinfo=None))
        with pytest.raises(InvalidArgumentType, match="before"):
            await managed.revoke_all(5)  # type: ignore[arg-type]
