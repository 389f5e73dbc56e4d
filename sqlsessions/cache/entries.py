"""The entries of a `CacheStorage`, and the loads and mutations of them that are under way."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock

from .. import records
from ..info import SessionInfo
from ..records import Clock


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Counters of a cache and its present contents.

    Attributes:
        hits: Reads answered from the cache.
        misses: Reads that went to the storage beneath.
        evictions: Entries dropped to keep within the bounds.
        entries: Entries held now.
        bytes: Size of their data.
    """

    hits: int
    misses: int
    evictions: int
    entries: int
    bytes: int


class Entry:
    """A session as it was loaded or written."""

    __slots__ = ("data", "expires_at", "idle_until", "info")

    def __init__(self, data: bytes, info: SessionInfo | None) -> None:
        self.data = data
        self.idle_until = 0
        self.refresh(info)

    def refresh(self, info: SessionInfo | None) -> None:
        """Replace the info."""
        self.info = info
        expires_at = info.expires_at if info else None
        self.expires_at = None if expires_at is None else records.from_datetime(expires_at)

    def extend(self, info: SessionInfo) -> None:
        """Apply the result of a touch, unless the expiry is already later."""
        old, new = self.expires_at, info.expires_at
        if old is not None and (new is None or records.from_datetime(new) > old):
            self.refresh(info)


class Flight:
    """A load or a mutation of one session that is under way.

    Its result is stale if another mutation of that session was under way meanwhile: which of the two
    took effect last is then unknown.
    """

    __slots__ = ("mutates", "stale")

    def __init__(self, *, mutates: bool, stale: bool) -> None:
        self.mutates = mutates
        self.stale = stale


class Entries:
    """The entries by digest, least recently used first. Safe to use from several threads."""

    def __init__(self, *, idle_timeout: int, max_bytes: int, max_entries: int, clock: Clock) -> None:
        self._idle_timeout = idle_timeout
        self._max_bytes = max_bytes
        self._max_entries = max_entries
        self._clock = clock
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._flights: dict[bytes, set[Flight]] = {}
        self._sweeps = 0
        self._bytes = self._hits = self._misses = self._evictions = 0
        self._lock = RLock()

    def statistics(self) -> CacheStatistics:
        """Counters so far, and the present contents."""
        with self._lock:
            return CacheStatistics(self._hits, self._misses, self._evictions, len(self._entries), self._bytes)

    def hit(self, digest: bytes) -> Entry | None:
        """The entry, if it has neither expired nor been idle for too long; counted."""
        with self._lock:
            entry = self.peek(digest)
            if entry is None:
                self._misses += 1
                return None
            self._hits += 1
            entry.idle_until = records.microseconds(self._clock) + self._idle_timeout
            self._entries.move_to_end(digest)
            return entry

    def peek(self, digest: bytes) -> Entry | None:
        """The entry, without counting or keeping it alive."""
        with self._lock:
            entry = self._entries.get(digest)
            if entry is None:
                return None
            now = records.microseconds(self._clock)
            if now >= entry.idle_until or (entry.expires_at is not None and now >= entry.expires_at):
                self._drop(digest)
                return None
            return entry

    def begin(self, digest: bytes, *, mutates: bool) -> Flight:
        """Register a load or a mutation that starts; a mutation drops the entry."""
        with self._lock:
            flights = self._flights.setdefault(digest, set())
            flight = Flight(mutates=mutates, stale=self._sweeps > 0 or any(f.mutates for f in flights))
            if mutates:
                for other in flights:
                    other.stale = True
                self._drop(digest)
            flights.add(flight)
            return flight

    def keep(self, digest: bytes, flight: Flight, data: bytes, info: SessionInfo | None) -> None:
        """Store the result of a flight, unless it is stale."""
        with self._lock:
            if flight.stale or len(data) > self._max_bytes:
                return
            self._drop(digest)
            now = records.microseconds(self._clock)
            entry = Entry(data, info)
            entry.idle_until = now + self._idle_timeout
            self._entries[digest] = entry
            self._bytes += len(data)
            while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
                self._drop(next(iter(self._entries)))
                self._evictions += 1
            while now >= (oldest := next(iter(self._entries.items())))[1].idle_until:
                self._drop(oldest[0])

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
    def sweeping(self, subject: str, keys: Collection[str]) -> Iterator[None]:
        """Drop a subject's sessions, and those of some keys; what is loaded meanwhile is not stored."""
        with self._lock:
            self._sweeps += 1
            for flights in self._flights.values():
                for flight in flights:
                    flight.stale = True
            gone = {bytes.fromhex(key) for key in keys}
            gone.update(d for d, e in self._entries.items() if e.info and e.info.subject == subject)
            for digest in gone:
                self._drop(digest)
        try:
            yield
        finally:
            with self._lock:
                self._sweeps -= 1

    def clear(self) -> None:
        """Drop every entry."""
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def _drop(self, digest: bytes) -> None:
        if entry := self._entries.pop(digest, None):
            self._bytes -= len(entry.data)
