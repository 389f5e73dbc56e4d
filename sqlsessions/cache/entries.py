"""The entries of a `CacheStorage`, and the loads and mutations of them that are under way."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Any, NamedTuple

from .. import records
from ..channels import Bytes
from ..info import SessionInfo
from ..records import Clock
from .bus import Bus, BusStatistics, Notice


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Counters of a cache and its present contents.

    Every read is one of ``hits``, ``checked`` and ``misses``.

    Attributes:
        hits: Reads answered from the cache alone.
        misses: Reads that went to the storage beneath.
        evictions: Entries dropped to keep within the bounds.
        entries: Entries held now.
        bytes: Size of their data.
        checked: Reads for which the version of an entry was compared with that of the storage beneath.
        bypassed: Those of them that were checked because the bus was down, late or not proven.
        bus: How the bus is; None without one.
    """

    hits: int
    misses: int
    evictions: int
    entries: int
    bytes: int
    checked: int = 0
    bypassed: int = 0
    bus: BusStatistics | None = None


class Moment(NamedTuple):
    """A point in time, by the clock of sessions and by one that nobody sets.

    Attributes:
        time: Microseconds since 1970 UTC.
        elapsed: Seconds of the monotonic clock.
        state: What the bus said; see `Bus.state`.
    """

    time: int
    elapsed: float
    state: object | None


class Entry:
    """A session as it was loaded or written.

    Attributes:
        seen: When the load, write or check that the entry comes from began: the storage beneath had it later.
    """

    __slots__ = ("data", "expires_at", "idle_until", "info", "seen")

    def __init__(self, data: bytes, info: SessionInfo | None, seen: Moment) -> None:
        self.data = data
        self.seen = seen
        self.idle_until = 0
        self.refresh(info)

    def refresh(self, info: SessionInfo | None) -> None:
        """Replace the info."""
        self.info = info
        expires_at = info.expires_at if info else None
        self.expires_at = None if expires_at is None else records.from_datetime(expires_at)

    def extend(self, info: SessionInfo) -> None:
        """Apply the result of a touch, unless one that came later was applied before it."""
        assert self.info is not None
        end = None if info.expires_at is None else records.from_datetime(info.expires_at)
        if end == self.expires_at:  # as of a touch that shortens the idle timeout
            before, after = self.info.used_at, info.used_at
            newer = after is not None and (before is None or after > before)
        else:
            newer = self.expires_at is not None and (end is None or end > self.expires_at)
        if newer:
            self.refresh(info)


class Flight:
    """A load or a mutation of one session that is under way.

    Its result is stale if another mutation of that session was under way meanwhile: which of the two
    took effect last is then unknown.
    """

    __slots__ = ("began", "mutates", "notice", "stale")

    def __init__(self, began: Moment, *, mutates: bool, stale: bool) -> None:
        self.began = began
        self.mutates = mutates
        self.notice: Notice | None = None
        self.stale = stale

    def is_valid(self, info: SessionInfo | None) -> bool:
        """Whether its result is what the session is now, as far as is known."""
        if self.stale:
            return False
        return self.notice is None or (info is not None and info.version == self.notice.version)


class Entries:
    """The entries by digest, least recently used first. Safe to use from several threads."""

    def __init__(
        self,
        *,
        idle_timeout: int,
        max_staleness: int,
        max_bytes: int,
        max_entries: int,
        clock: Clock,
        bus: Bus | None,
    ) -> None:
        self._idle_timeout = idle_timeout
        self._max_staleness = max_staleness
        self._max_elapsed = max_staleness / 1_000_000
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._clock = clock
        self._bus = bus
        self._state = bus.state if bus is not None else _no_bus
        self._last_state = bus.last_state if bus is not None else _no_bus
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._flights: dict[bytes, set[Flight]] = {}
        self._sweeps = 0
        self._bytes = self._hits = self._misses = self._evictions = self._checked = self._bypassed = 0
        self._lock = RLock()

    def statistics(self) -> CacheStatistics:
        """Counters so far, and the present contents."""
        with self._lock:
            return CacheStatistics(
                self._hits,
                self._misses,
                self._evictions,
                len(self._entries),
                self._bytes,
                self._checked,
                self._bypassed,
                None if self._bus is None else self._bus.statistics,
            )

    def hit(self, digest: bytes) -> Entry | None:
        """The entry, if it needs no check and has neither expired nor been idle for too long; counted."""
        with self._lock:
            entry = self._live(digest, records.microseconds(self._clock))
            if entry is None:
                self._misses += 1
                return None
            now = self._now(self._state)
            if not self._is_current(entry.seen, now):
                self._checked += 1
                self._bypassed += now.state is None
                return None
            self._hits += 1
            entry.idle_until = now.time + self._idle_timeout
            self._entries.move_to_end(digest)
            return entry

    def peek(self, digest: bytes) -> Entry | None:
        """The entry, whether it needs a check or not, without counting or keeping it alive."""
        with self._lock:
            return self._live(digest, records.microseconds(self._clock))

    def may_join(self, flight: Flight) -> bool:
        """Whether the result of a load is good enough for a reader who comes now."""
        with self._lock:
            return (
                not flight.stale
                and flight.notice is None
                and self._is_current(flight.began, self._now(self._state))
            )

    def _now(self, state: Callable[[], object | None]) -> Moment:
        return Moment(records.microseconds(self._clock), time.monotonic(), state())

    def _is_current(self, seen: Moment, now: Moment) -> bool:
        # By both clocks: the first can be set back, the second is not the tests'.
        return (
            0 <= now.time - seen.time < self._max_staleness
            and now.elapsed - seen.elapsed < self._max_elapsed
            and now.state is not None
            and now.state == seen.state
        )

    def _live(self, digest: bytes, now: int) -> Entry | None:
        entry = self._entries.get(digest)
        if entry is not None and (
            now >= entry.idle_until or (entry.expires_at is not None and now >= entry.expires_at)
        ):
            self._drop(digest)
            return None
        return entry

    def begin(self, digest: bytes, *, mutates: bool) -> Flight:
        """Register a load or a mutation that starts; a mutation drops the entry."""
        with self._lock:
            flights = self._flights.setdefault(digest, set())
            stale = self._sweeps > 0 or any(f.mutates for f in flights)
            flight = Flight(self._now(self._last_state), mutates=mutates, stale=stale)
            if mutates:
                for other in flights:
                    other.stale = True
                self._drop(digest)
            flights.add(flight)
            return flight

    def keep(self, digest: bytes, flight: Flight, data: bytes, info: SessionInfo | None) -> None:
        """Store the result of a flight, unless it is stale."""
        with self._lock:
            if not flight.is_valid(info) or len(data) > self._max_bytes:
                return
            self._drop(digest)
            now = records.microseconds(self._clock)
            entry = Entry(data, info, flight.began)
            entry.idle_until = now + self._idle_timeout
            self._entries[digest] = entry
            self._bytes += len(data)
            while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
                self._drop(next(iter(self._entries)))
                self._evictions += 1
            while now >= (oldest := next(iter(self._entries.items())))[1].idle_until:
                self._drop(oldest[0])

    def confirm(self, digest: bytes, flight: Flight, entry: Entry, info: SessionInfo) -> None:
        """Store the result of a check that found the version of an entry, unless the flight is stale."""
        with self._lock:
            if flight.is_valid(info) and self._entries.get(digest) is entry:
                entry.refresh(info)
                entry.seen = flight.began
                entry.idle_until = records.microseconds(self._clock) + self._idle_timeout
                self._entries.move_to_end(digest)

    def discard(self, digest: bytes, entry: Entry) -> None:
        """Drop an entry, if it is still there."""
        with self._lock:
            if self._entries.get(digest) is entry:
                self._drop(digest)

    def end(self, digest: bytes, flight: Flight) -> None:
        """Unregister a flight that has ended."""
        with self._lock:
            flights = self._flights[digest]
            flights.discard(flight)
            if not flights:
                del self._flights[digest]

    def refresh(self, digest: bytes, info: SessionInfo | None) -> None:
        """Apply the result of a touch; the flights under way may have read the session before it."""
        with self._lock:
            for flight in self._flights.get(digest, ()):
                flight.stale = True
            entry = self._entries.get(digest)
            if entry is None or entry.info is None:
                return
            if info is not None and info.version == entry.info.version:
                entry.extend(info)
            else:
                self._drop(digest)

    @contextmanager
    def sweeping(
        self, chosen: Callable[[SessionInfo], bool] | None, digests: Collection[bytes] = ()
    ) -> Iterator[None]:
        """Drop some sessions, and those of some digests; what is loaded meanwhile is not stored.

        Args:
            chosen: Tells which; None is all.
            digests: Of the others.
        """
        with self._lock:
            self._sweeps += 1
            for flights in self._flights.values():
                for flight in flights:
                    flight.stale = True
            gone = set(digests)
            gone.update(
                digest
                for digest, entry in self._entries.items()
                if chosen is None or (entry.info and chosen(entry.info))
            )
            for digest in gone:
                self._drop(digest)
        try:
            yield
        finally:
            with self._lock:
                self._sweeps -= 1

    def changed(self, notices: Iterable[Notice]) -> None:
        """Drop the entries that notices tell of, unless they have what was changed already."""
        with self._lock:
            for notice in notices:
                for flight in self._flights.get(notice.digest, ()):
                    flight.notice = notice
                entry = self._entries.get(notice.digest)
                if entry is not None and (entry.info is None or entry.info.version != notice.version):
                    self._drop(notice.digest)

    def missed(self) -> None:
        """Drop every entry, and what is under way."""
        with self._lock:
            for flights in self._flights.values():
                for flight in flights:
                    flight.stale = True
            self.clear()

    def clear(self) -> None:
        """Drop every entry."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def _drop(self, digest: bytes) -> None:
        if entry := self._entries.pop(digest, None):
            self._bytes -= len(entry.data)


def _no_bus() -> object:
    return True


def repeats(cached: Entry | None, data: Bytes, options: dict[str, Any]) -> bool:
    """Whether a write would leave the cached session as it is."""
    if cached is None or cached.info is None or cached.data != data:
        return False
    same = {"subject": cached.info.subject, "if_match": cached.info.version}
    return all(name in same and same[name] == value for name, value in options.items())


def of_subject(subject: str) -> Callable[[SessionInfo], bool]:
    """Tells which sessions are a subject's."""
    return lambda info: info.subject == subject


def kept(cached: Entry | None, info: SessionInfo | None) -> bool:
    """Whether a session still has the cached version."""
    return cached is not None and same_version(info, cached.info)


def same_version(info: SessionInfo | None, other: SessionInfo | None) -> bool:
    """Whether two infos are of one version."""
    return info is not None and other is not None and info.version == other.version
