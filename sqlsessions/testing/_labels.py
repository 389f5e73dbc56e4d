"""Contract: further names of sessions, by which they are listed and ended; their clients, and when they were used."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import product
from typing import Any

import pytest
import pytest_asyncio

from .. import (
    KEEP,
    InvalidArgument,
    InvalidArgumentType,
    ManagedSessionStorage,
    SessionConflict,
    SessionInfo,
    SessionNotFound,
    UnsupportedOperation,
)
from ._base import NO_NAMES, Contract, small_and_large
from .clock import ManualClock

ALIKE = ["sid:ann", "sid:Ann", "sid:ann ", "sid:\u00e0nn", "sid:a\u0300nn", "%", "sid:", "1", "01"]
CLIENT = {"address": "192.0.2.7", "user_agent": 'B\u00f6rk/\U0001f600 "1"'}


async def labelled(storage: ManagedSessionStorage, label: str) -> list[SessionInfo]:
    """The live sessions with a label."""
    return [info async for info in storage.sessions(label=label)]


class Labels(Contract):
    """Labels, clients and times of use. A storage may refuse labels."""

    @pytest_asyncio.fixture(loop_scope="function")
    async def named(self, managed: ManagedSessionStorage) -> ManagedSessionStorage:
        """The storage under test, if it has labels."""
        try:
            await labelled(managed, "none")
        except UnsupportedOperation as error:
            pytest.skip(str(error))
        return managed

    @small_and_large
    async def test_labels_are_set_kept_changed_and_cleared(
        self, named: ManagedSessionStorage, size: str
    ) -> None:
        seen = []
        changes: list[dict[str, Any]] = [
            {}, {"labels": ["b", "a", "b"]}, {}, {"labels": KEEP}, {"labels": {"b", "c"}, "subject": "ann"},
            {"labels": ("b",)}, {"labels": ()}, {},
        ]  # fmt: skip
        for seed, change in enumerate(changes):
            info = await named.write_bytes("id", self.blob(size, seed), **change)
            assert info == await named.info("id")
            seen.append(info.labels)
            for label in ("a", "b", "c"):
                assert await labelled(named, label) == ([info] if label in info.labels else [])
        assert seen == [(), ("a", "b"), ("a", "b"), ("a", "b"), ("b", "c"), ("b",), (), ()]
        assert await named.read_bytes("id") == self.blob(size, len(changes) - 1)

    async def test_labels_that_look_alike_are_different(self, named: ManagedSessionStorage) -> None:
        infos = {label: await named.write_bytes(f"id of {label}", b"data", labels=[label]) for label in ALIKE}
        for label in ALIKE:
            assert infos[label].labels == (label,)
            assert await labelled(named, label) == [infos[label]]
        assert await named.revoke_label("sid:ann") == 1
        for label in ALIKE[1:]:
            assert await labelled(named, label) == [infos[label]]

    @pytest.mark.parametrize("character", ["x", "\u00e9", "\U0001f600"])
    async def test_sixteen_labels_of_255_characters(
        self, named: ManagedSessionStorage, character: str
    ) -> None:
        labels = [f"{number:x}" + character * 254 for number in range(16)]
        info = await named.write_bytes("id", b"data", labels=labels)
        assert await labelled(named, labels[7]) == [info]
        with pytest.raises(InvalidArgument, match="labels"):
            await named.write_bytes("id", b"data", labels=[*labels, "one more"])
        assert await named.info("id") == info

    async def test_what_can_be_no_label_is_refused(self, named: ManagedSessionStorage) -> None:
        info = await named.write_bytes("id", b"old", labels=["a"])
        calls: list[Callable[[Any], Awaitable[Any]]] = [
            lambda label: named.write_bytes("id", b"new", labels=(label,)),
            lambda label: labelled(named, label),
            named.revoke_label,
        ]
        for (label, error), call in product(NO_NAMES, calls):
            with pytest.raises((error, TypeError)):
                await call(label)
        assert await labelled(named, "a") == [info]

    async def test_labels_that_are_no_collection_are_refused(self, named: ManagedSessionStorage) -> None:
        wrong: list[Any] = ["sid", b"sid", 5, None]
        for labels in wrong:
            with pytest.raises(InvalidArgumentType, match="labels"):
                await named.write_bytes("id", b"data", labels=labels)
        assert await named.info("id") is None

    async def test_a_subject_and_a_label_are_refused_together(self, named: ManagedSessionStorage) -> None:
        with pytest.raises(InvalidArgument, match="not both"):
            _ = [info async for info in named.sessions("ann", label="a")]

    @small_and_large
    async def test_labels_move_with_a_rotation(self, named: ManagedSessionStorage, size: str) -> None:
        await named.write_bytes("id", self.blob(size), labels=["a", "b"], client=CLIENT)
        info = await named.rotate("id", "new")
        assert (info.labels, info.client) == (("a", "b"), CLIENT)
        assert await labelled(named, "a") == await labelled(named, "b") == [info]
        assert await named.revoke_label("b") == 1
        with pytest.raises(SessionNotFound):
            await named.read_bytes("new")

    @small_and_large
    async def test_labels_go_with_their_session(
        self, named: ManagedSessionStorage, clock: ManualClock, size: str
    ) -> None:
        async def ended() -> None:
            await named.invalidate("id")

        async def expired() -> None:
            clock.advance(11)

        async def revoked() -> None:
            await named.revoke("ann")

        for end in (ended, expired, revoked):
            await named.write_bytes("id", self.blob(size), labels=["a"], client=CLIENT, subject="ann", ttl=10)
            await end()
            assert await labelled(named, "a") == []
            assert await named.revoke_label("a") == 0
            info = await named.write_bytes("id", self.blob(size))
            assert (info.labels, info.client) == ((), None)
            assert await labelled(named, "a") == []
            assert await named.revoke_label("a") == 0
            assert await named.info("id") == info
            await named.purge()
            info = await named.write_bytes("id", b"data", labels=["a"])
            assert await labelled(named, "a") == [info]
            await named.invalidate("id")
            await named.purge()
            assert await labelled(named, "a") == []

    async def test_labels_come_with_a_condition(self, named: ManagedSessionStorage) -> None:
        info = await named.write_bytes("id", b"1", labels=["a"], if_match=0)
        with pytest.raises(SessionConflict):
            await named.write_bytes("id", b"2", labels=["b"], if_match=0)
        assert await labelled(named, "a") == [info]
        changed = await named.write_bytes("id", b"2", labels=["b"], if_match=info.version)
        with pytest.raises(SessionConflict):
            await named.write_bytes("id", b"3", labels=["a"], if_match=info.version)
        assert await labelled(named, "a") == []
        assert await labelled(named, "b") == [changed]

    async def test_many_sessions_with_a_label_are_listed_by_key_and_revoked(
        self, named: ManagedSessionStorage
    ) -> None:
        infos = []
        for start in range(0, self.many, 50):
            infos += await asyncio.gather(
                *(
                    named.write_bytes(f"id {start + step}", b"data", labels=["a", f"{step}"])
                    for step in range(50)
                )
            )
        other = await named.write_bytes("other", b"data", labels=["b"])
        assert await labelled(named, "a") == sorted(infos, key=lambda info: info.key)
        assert {info.key for info in await labelled(named, "7")} == {info.key for info in infos[7::50]}
        assert await named.revoke_label("7") == self.many // 50
        assert await named.revoke_label("a") == self.many - self.many // 50
        assert await labelled(named, "a") == []
        assert await labelled(named, "b") == [other]

    async def test_no_session_escapes_by_getting_another_id(self, named: ManagedSessionStorage) -> None:
        for number in range(20):
            await named.write_bytes(f"{number}", b"data", labels=["a"])

            async def rotate(number: int = number) -> None:
                for step in range(3):
                    try:
                        await named.rotate(f"{number}{'x' * step}", f"{number}{'x' * (step + 1)}")
                    except SessionNotFound:
                        return

            await asyncio.gather(rotate(), named.revoke_label("a"))
            assert await labelled(named, "a") == []

    @small_and_large
    async def test_a_client_is_set_kept_changed_and_cleared(
        self, managed: ManagedSessionStorage, size: str
    ) -> None:
        seen = []
        changes: list[dict[str, Any]] = [
            {}, {"client": CLIENT}, {}, {"client": KEEP}, {"client": {"address": "::1"}}, {"client": None}, {}
        ]  # fmt: skip
        for seed, change in enumerate(changes):
            info = await managed.write_bytes("id", self.blob(size, seed), **change)
            assert info == await managed.info("id")
            seen.append(info.client)
        assert seen == [None, CLIENT, CLIENT, CLIENT, {"address": "::1"}, None, None]

    async def test_what_can_be_no_client_is_refused(self, managed: ManagedSessionStorage) -> None:
        others: list[Any] = ["here", ["here"], {"address": 5}, {5: "here"}, 5]
        for client in others:
            with pytest.raises(InvalidArgumentType, match="client"):
                await managed.write_bytes("id", b"data", client=client)
        with pytest.raises(InvalidArgument, match="client"):
            await managed.write_bytes("id", b"data", client={"user_agent": "x" * 8192})
        assert await managed.info("id") is None

    async def test_a_write_and_a_touch_use_a_session(
        self, managed: ManagedSessionStorage, clock: ManualClock
    ) -> None:
        info = await managed.write_bytes("id", b"data", ttl=100)
        if info.used_at is None:
            pytest.skip(f"{type(managed).__name__} does not know when a session was used")
        assert info.used_at == info.updated_at
        clock.advance(50)
        await managed.load("id")
        found = await managed.info("id")
        assert found is not None
        assert found.used_at == info.used_at
        touched = await managed.touch("id")
        assert touched is not None
        assert touched == await managed.info("id")
        assert touched.updated_at == info.updated_at
        assert touched.used_at is not None
        assert (touched.used_at - info.updated_at).total_seconds() == 50
        moved = await managed.rotate("id", "new")
        assert moved.used_at == touched.used_at
        clock.advance(1)
        written = await managed.write_bytes("new", b"more")
        assert written.used_at == written.updated_at > touched.used_at
