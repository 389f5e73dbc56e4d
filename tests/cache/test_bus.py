"""A cache believes what it holds as far as its bus does."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from sqlsessions import CacheStorage, InvalidArgumentType, SessionNotFound, StorageUnavailable
from sqlsessions.cache.bus import Bus, BusStatistics, Notice
from sqlsessions.testing._base import state

from .support import Recorder, key


class Told(Bus):
    """A bus that tests speak for."""

    def __init__(self) -> None:
        super().__init__()
        self.now: object | None = 1
        self.closed = False
        self.asked = 0
        self.published: list[bytes] = []

    def state(self) -> object | None:
        self.asked += 1
        return self.now

    async def publish(self, digests: Collection[bytes]) -> None:
        self.published += digests

    @property
    def statistics(self) -> BusStatistics:
        return BusStatistics(self.now is not None, None, 0, self._notices)

    def tell(self, id: str, version: int | None) -> None:
        self._deliver([Notice(bytes.fromhex(key(id)), version)])

    def miss(self) -> None:
        self._deliver_missed()

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture
def bus() -> Told:
    return Told()


@pytest.fixture
def cache(delegate: Recorder, bus: Told) -> CacheStorage:
    return CacheStorage(delegate, bus=bus)


@pytest.mark.parametrize("version", [0, None, 12345])
async def test_a_notice_drops_the_entry(
    cache: CacheStorage, delegate: Recorder, bus: Told, version: int | None
) -> None:
    await cache.write_bytes("id", b"data")
    await cache.write_bytes("other", b"data")
    await delegate.invalidate("id")
    assert await cache.read_bytes("id") == b"data"
    bus.tell("id", version)
    with pytest.raises(SessionNotFound):
        await cache.read_bytes("id")
    assert await cache.read_bytes("other") == b"data"
    assert cache.statistics.hits == 2
    assert cache.statistics.bus == BusStatistics(True, None, 0, 1)


async def test_a_notice_of_what_the_cache_has_leaves_the_entry(
    cache: CacheStorage, delegate: Recorder, bus: Told
) -> None:
    info = await cache.write_bytes("id", b"data")
    bus.tell("id", info.version)
    assert await cache.read_bytes("id") == b"data"
    assert (cache.statistics.hits, delegate.calls["info"]) == (1, 0)


@pytest.mark.parametrize("call", ["read", "info", "write"])
@pytest.mark.parametrize("told", ["another", "ended", "unknown", "missed", "same"])
async def test_what_is_under_way_when_a_notice_comes_is_kept_only_if_it_is_that(
    cache: CacheStorage, delegate: Recorder, bus: Told, call: str, told: str
) -> None:
    await (delegate if call == "read" else cache).write_bytes("id", b"data")
    if call == "info":
        bus.now = 2  # makes it a check
    pause = delegate.stop(f"after {call}")
    waiting = await pause.start(cache.write_bytes("id", b"new") if call == "write" else cache.load("id"))
    info = await delegate.info("id")
    assert info is not None
    if told == "missed":
        bus.miss()
    else:
        bus.tell("id", {"another": 12345, "ended": 0, "unknown": None, "same": info.version}[told])
    await pause.finish(waiting)
    assert cache.statistics.entries == (told == "same")
    assert await state(cache, "id") == await state(delegate, "id")


async def test_the_last_of_several_notices_counts(cache: CacheStorage, delegate: Recorder, bus: Told) -> None:
    pause = delegate.stop("after write")
    writer = await pause.start(cache.write_bytes("id", b"mine"))
    mine = await delegate.info("id")
    theirs = await delegate.write_bytes("id", b"theirs")
    assert mine is not None
    bus.tell("id", mine.version)
    bus.tell("id", theirs.version)
    await pause.finish(writer)
    assert await cache.read_bytes("id") == b"theirs"


async def test_a_reader_does_not_join_a_load_from_before_a_notice(
    cache: CacheStorage, delegate: Recorder, bus: Told
) -> None:
    await delegate.write_bytes("id", b"data")
    pause = delegate.stop("after read")
    first = await pause.start(cache.read_bytes("id"))
    await delegate.invalidate("id")
    bus.tell("id", 0)
    with pytest.raises(SessionNotFound):
        await cache.read_bytes("id")
    assert await pause.finish(first) == b"data"


async def test_while_the_bus_is_not_proven_every_read_is_checked(
    cache: CacheStorage, delegate: Recorder, bus: Told
) -> None:
    await cache.write_bytes("id", b"data")
    bus.now = None
    for _ in range(3):
        assert await cache.read_bytes("id") == b"data"
    statistics = cache.statistics
    assert (statistics.hits, statistics.checked, statistics.bypassed, delegate.calls["read"]) == (0, 3, 3, 0)
    await delegate.invalidate("id")
    with pytest.raises(SessionNotFound):
        await cache.read_bytes("id")


async def test_what_was_checked_while_it_was_not_proven_is_checked_again(
    cache: CacheStorage, delegate: Recorder, bus: Told
) -> None:
    bus.now = None
    await cache.write_bytes("id", b"data")
    assert await cache.read_bytes("id") == b"data"
    bus.now = 1
    await delegate.invalidate("id")
    with pytest.raises(SessionNotFound):
        await cache.read_bytes("id")


async def test_the_bus_is_not_asked_of_what_the_cache_does_not_hold(cache: CacheStorage, bus: Told) -> None:
    assert await cache.info("id") is None
    assert (cache.statistics.misses, bus.asked) == (1, 0)


@pytest.mark.parametrize("changed", [False, True])
async def test_a_repeated_write_is_published_only_if_it_wrote(
    cache: CacheStorage, delegate: Recorder, bus: Told, changed: bool
) -> None:
    await cache.write_bytes("id", b"data")
    bus.published.clear()
    if changed:
        await delegate.write_bytes("id", b"theirs")
    await cache.write_bytes("id", b"data")
    assert bus.published == ([bytes.fromhex(key("id"))] if changed else [])


async def test_a_repeated_write_of_unknown_outcome_is_published(
    cache: CacheStorage, delegate: Recorder, bus: Told
) -> None:
    await cache.write_bytes("id", b"data")
    bus.published.clear()
    delegate.errors["touch"] = StorageUnavailable("silence")
    with pytest.raises(StorageUnavailable):
        await cache.write_bytes("id", b"data")
    assert bus.published


async def test_another_state_makes_every_entry_checked_once(
    cache: CacheStorage, delegate: Recorder, bus: Told
) -> None:
    await cache.write_bytes("id", b"data")
    bus.now = 2
    for _ in range(3):
        assert await cache.read_bytes("id") == b"data"
    assert (cache.statistics.hits, cache.statistics.checked, cache.statistics.bypassed) == (2, 1, 0)


@pytest.mark.parametrize("write", [True, False])
async def test_what_began_in_an_earlier_state_is_checked(
    delegate: Recorder, bus: Told, write: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write or a load takes the last state that is known, which may be over."""
    monkeypatch.setattr(bus, "last_state", lambda: 0)
    cache = CacheStorage(delegate, bus=bus)
    await (cache if write else delegate).write_bytes("id", b"data")
    assert await cache.read_bytes("id") == b"data"
    await delegate.invalidate("id")
    with pytest.raises(SessionNotFound):
        await cache.read_bytes("id")


async def test_after_a_gap_the_cache_is_empty(cache: CacheStorage, delegate: Recorder, bus: Told) -> None:
    await cache.write_bytes("id", b"data")
    bus.miss()
    assert cache.statistics.entries == 0
    assert await cache.read_bytes("id") == b"data"


async def test_a_proven_bus_does_not_lift_the_bound(
    cache: CacheStorage, delegate: Recorder, clock: Any
) -> None:
    await cache.write_bytes("id", b"data")
    await delegate.invalidate("id")
    clock.advance(2)
    with pytest.raises(SessionNotFound):
        await cache.read_bytes("id")


async def test_a_given_bus_is_closed_with_the_cache(delegate: Recorder, bus: Told) -> None:
    async with CacheStorage(delegate, bus=bus) as cache:
        await cache.write_bytes("id", b"data")
    assert bus.closed
    bus.tell("id", 0)
    assert not bus._subscribers


@pytest.mark.parametrize("bus", [True, "postgresql://", Told], ids=repr)
def test_a_bus_that_is_none_is_refused(delegate: Recorder, bus: Any) -> None:
    with pytest.raises(InvalidArgumentType, match=r"^bus must be"):
        CacheStorage(delegate, bus=bus)


def test_over_memory_there_is_no_bus(delegate: Recorder) -> None:
    assert CacheStorage(delegate).statistics.bus is None
