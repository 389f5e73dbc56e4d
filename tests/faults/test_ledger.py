"""The ledger notices what a broken storage does, and finds nothing wrong with a sound one."""

from __future__ import annotations

from typing import Any

import pytest

from sqlsessions import SessionInfo, SessionNotFound, SessionStorageMemory, StorageUnavailable

from .ledger import Ledger, State, TornError, parse, payload
from .load import Load, ProviderFailed

NAMES = [f"slot-{number}" for number in range(8)]


class Nth:
    """Whether it is time to misbehave: every n-th time."""

    def __init__(self, nth: int = 10) -> None:
        self.nth, self.count = nth, 0

    def __bool__(self) -> bool:
        self.count += 1
        return self.count % self.nth == 0


class Losing(SessionStorageMemory):
    """Acknowledges some writes that it does not make."""

    def __init__(self) -> None:
        super().__init__()
        self.now = Nth()

    async def write_bytes(self, id: str, data: Any, **options: Any) -> SessionInfo:
        if self.now and (info := await self.info(id)):
            return info
        return await super().write_bytes(id, data, **options)


class Tearing(Losing):
    """Keeps some sessions without their end."""

    async def write_bytes(self, id: str, data: Any, **options: Any) -> SessionInfo:
        return await SessionStorageMemory.write_bytes(self, id, data[:-1] if self.now else data, **options)


class Resurrecting(Losing):
    """Does not end some sessions that it says are ended."""

    async def write_bytes(self, id: str, data: Any, **options: Any) -> SessionInfo:
        return await SessionStorageMemory.write_bytes(self, id, data, **options)

    async def invalidate(self, id: str) -> None:
        if not self.now:
            await super().invalidate(id)


class Doubling(Resurrecting):
    """Leaves a session that was rotated under its old id too."""

    async def invalidate(self, id: str) -> None:
        await SessionStorageMemory.invalidate(self, id)

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        data = await self.read_bytes(id)
        await super().rotate(id, new_id)
        return await SessionStorageMemory.write_bytes(self, id, data)


class Tracing(Resurrecting):
    """Writes what a provider wrote before it failed."""

    async def write(self, id: str, provider: Any, **options: Any) -> SessionInfo:
        error: ProviderFailed | None = None

        async def forgiving(channel: Any) -> None:
            nonlocal error
            try:
                await provider(channel)
            except ProviderFailed as failed:
                error = failed

        info = await super().write(id, forgiving, **options)
        if error is not None:
            raise error
        return info


async def found_in(storage: SessionStorageMemory, *, seconds: float = 0.4) -> Ledger:
    ledger = Ledger()
    await Load(storage, ledger, large=4_000).for_seconds(NAMES, seconds)
    await ledger.verify(storage)
    assert ledger.acknowledged > 100
    return ledger


async def test_a_sound_storage_is_found_sound() -> None:
    ledger = await found_in(SessionStorageMemory())
    assert ledger.violations == {}, ledger.details
    assert ledger.errors == {}


@pytest.mark.parametrize(
    ("storage", "kind"),
    [
        (Losing, "lost"),
        (Tearing, "torn"),
        (Resurrecting, "resurrected"),
        (Doubling, "resurrected"),
        (Tracing, "trace"),
    ],
)
async def test_a_broken_storage_is_found_out(storage: type[SessionStorageMemory], kind: str) -> None:
    ledger = await found_in(storage())
    assert ledger.violations[kind] > 0, ledger.details[:10]


async def test_what_becomes_of_a_session_later_is_found_out() -> None:
    """With nobody reading meanwhile: by the verification alone."""
    for broken, kind in (("gone", "lost"), ("old", "lost"), ("ended", "resurrected"), ("cut", "torn")):
        storage, ledger = SessionStorageMemory(), Ledger()
        for sequence in (1, 2):
            ledger.begin("slot", State(0, sequence))
            await storage.write_bytes("slot/0", payload("slot", sequence, 100))
            ledger.end("slot", "acknowledged")
        if broken == "gone":
            await storage.invalidate("slot/0")
        elif broken == "old":
            await storage.write_bytes("slot/0", payload("slot", 1, 100))
        elif broken == "ended":
            ledger.begin("slot", None)
            ledger.end("slot", "acknowledged")
        else:
            await storage.write_bytes("slot/0", payload("slot", 2, 100)[:-1])
        await ledger.verify(storage)
        assert ledger.violations == {kind: 1}, (broken, ledger.details)


async def test_of_an_unknown_outcome_both_are_right_until_one_was_seen() -> None:
    storage, ledger = SessionStorageMemory(), Ledger()
    ledger.begin("slot", State(0, 1))
    ledger.end("slot", "unknown", StorageUnavailable("it is away"))
    await ledger.verify(storage)
    assert ledger.violations == {}
    await storage.write_bytes("slot/0", payload("slot", 1, 100))  # it took effect after all, too late
    await ledger.verify(storage)
    assert ledger.violations == {"resurrected": 1}
    assert ledger.errors == {"StorageUnavailable": 1}


async def test_a_session_of_nobody_is_noticed() -> None:
    storage, ledger = SessionStorageMemory(), Ledger()
    await storage.write_bytes("another", b"")
    await ledger.verify(storage)
    assert ledger.violations == {"stray": 1}


async def test_another_ledger_learns_all_from_the_lines() -> None:
    lines: list[str] = []
    ledger, copy = Ledger(lines.append), Ledger()
    storage = Tearing()
    await Load(storage, ledger, large=4_000).for_seconds(NAMES, 0.2)
    ledger.begin(NAMES[0], State(0, ledger.slot(NAMES[0]).sequence + 1))
    ledger.saw("Something")
    for line in lines:
        copy.note(line)
    assert copy.slots == ledger.slots
    assert (copy.violations, copy.errors, copy.acknowledged) == (
        ledger.violations,
        ledger.errors,
        ledger.acknowledged,
    )
    copy.died()
    assert len(copy.slot(NAMES[0]).possible) == 2


@pytest.mark.parametrize("size", [0, 1, 1000])
def test_a_payload_is_known_whole_and_in_no_part(size: int) -> None:
    data = payload("slot", 7, size)
    assert parse(data) == ("slot", 7)
    other = payload("slot", 8, size)
    for broken in (data[:-1], data + b"x", data[: len(data) // 2] + other[len(data) // 2 :], b""):
        if broken != data:
            with pytest.raises(TornError):
                parse(broken)


async def test_a_missing_session_reads_as_none() -> None:
    storage, ledger = SessionStorageMemory(), Ledger()
    with pytest.raises(SessionNotFound):
        await storage.read_bytes("slot/0")
    ledger.read("slot", 0, None)
    assert ledger.violations == {}
