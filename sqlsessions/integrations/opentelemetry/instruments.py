"""The metrics: one set of instruments for each meter provider, shared by the storages that use it."""

from __future__ import annotations

from collections import Counter as Sums
from collections.abc import Callable, Iterable
from importlib.metadata import version
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from ...events import Kind
from ...purging import Purged
from .source import Attributes, Source

SCOPE = "sqlsessions"
SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0]  # the convention's own boundaries
SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256]

Measurement = tuple[int, dict[str, Any]]


class Instruments:
    """The instruments of a meter provider.

    Args:
        meter: Creates the instruments.
    """

    def __init__(self, meter: Meter) -> None:
        self._sources: WeakSet[Source] = WeakSet()
        self._lock = Lock()
        count = meter.create_counter
        self.duration = meter.create_histogram(
            "db.client.operation.duration",
            "s",
            "Duration of database client operations.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self.batches = meter.create_histogram(
            "sqlsessions.batch.size",
            "{operation}",
            "Operations that went to the database together.",
            explicit_bucket_boundaries_advisory=SIZES,
        )
        self.lookups = count("sqlsessions.lookups", "{lookup}", "Session ids that were looked up.")
        self.conflicts = count("sqlsessions.conflicts", "{conflict}", "Operations refused by a conflict.")
        self.retries = count("sqlsessions.retries", "{retry}", "Attempts that followed a failed one.")
        self.changes = {
            kind: count(f"sqlsessions.sessions.{kind}", "{session}", f"Sessions {kind}.")
            for kind in ("created", "rotated", "invalidated")
        }
        self._purged = count("sqlsessions.purge.sessions", "{session}", "Expired sessions that were purged.")
        self._chunks = count(
            "sqlsessions.purge.chunks", "{chunk}", "Pieces of large sessions that were purged."
        )
        self._rounds = count("sqlsessions.purge.rounds", "{round}", "Calls of purge.")
        self._observe(meter)

    def purged(self, purged: Purged, attributes: Attributes) -> None:
        """Count a purge that has ended."""
        self._purged.add(purged.sessions, attributes)
        self._chunks.add(purged.chunks, attributes)
        self._rounds.add(1, attributes)

    def attach(self, source: Source) -> None:
        """Measure a storage."""
        with self._lock:
            self._sources.add(source)
        if source.events is not None:
            source.events.observer = _EventCounter(self, source)
        if source.sql is not None:
            source.sql.database.observer = _DatabaseObserver(self, source)

    def detach(self, source: Source) -> None:
        """Stop measuring a storage."""
        with self._lock:
            self._sources.discard(source)
        if source.events is not None:
            source.events.observer = None
        if source.sql is not None:
            source.sql.database.observer = None

    def _observe(self, meter: Meter) -> None:
        total = meter.create_observable_counter
        gauge = meter.create_observable_gauge
        level = meter.create_observable_up_down_counter
        level(
            "db.client.connection.count",
            [self._callback(_connections)],
            "{connection}",
            "Connections in each state.",
        )
        level(
            "db.client.connection.max",
            [self._callback(_most)],
            "{connection}",
            "Most connections allowed.",
        )
        level(
            "db.client.connection.pending_requests",
            [self._callback(_pending)],
            "{request}",
            "Operations that wait for a connection.",
        )
        gauge(
            "sqlsessions.queue.depth",
            [self._callback(_queued)],
            "{operation}",
            "Operations that wait for a batch.",
        )
        for name, unit in (
            ("hits", "{hit}"),
            ("misses", "{miss}"),
            ("checked", "{read}"),
            ("bypassed", "{read}"),
            ("evictions", "{entry}"),
        ):
            total(
                f"sqlsessions.cache.{name}",
                [self._callback(_cache(name))],
                unit,
                f"{name.title()} of the cache.",
            )
        for name, unit in (("entries", "{entry}"), ("bytes", "By")):
            level(f"sqlsessions.cache.{name}", [self._callback(_cache(name))], unit, f"{name.title()} held.")
        total(
            "sqlsessions.cache.bus.gaps",
            [self._callback(_bus("gaps"))],
            "{gap}",
            "How often notices of the bus may have been missed.",
        )
        level(
            "sqlsessions.cache.bus.lag",
            [self._callback(_bus("lag"))],
            "s",
            "What the last heartbeat of the bus took.",
        )

    def _callback(
        self, measure: Callable[[Source], Iterable[Measurement]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """Add up the measurements of storages with the same attributes: two of one database share a pool's name."""

        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            with self._lock:
                sources = list(self._sources)
            sums: Sums[tuple[tuple[str, Any], ...]] = Sums()
            for source in sources:
                for value, attributes in measure(source):
                    sums[tuple(attributes.items())] += value
            return [Observation(value, dict(attributes)) for attributes, value in sums.items()]

        return observe


class _EventCounter:
    """The observer of `Events`: counts sessions that are created, rotated and invalidated."""

    def __init__(self, instruments: Instruments, source: Source) -> None:
        self._instruments = instruments
        self._attributes = source.common

    def __call__(self, kind: Kind, count: int) -> None:
        if kind != "expired":  # counted by the purge
            self._instruments.changes[kind].add(count, self._attributes)


class _DatabaseObserver:
    """The `Observer` of a database: counts batches and retries."""

    def __init__(self, instruments: Instruments, source: Source) -> None:
        self._instruments = instruments
        self._common = source.common
        self._kinds = (source.of("read"), source.of("write"))

    def batch(self, size: int, *, writes: bool) -> None:
        self._instruments.batches.record(size, self._kinds[writes])

    def retry(self, fault: str) -> None:
        self._instruments.retries.add(1, self._common | {"sqlsessions.fault": fault.lower()})


_known: WeakKeyDictionary[MeterProvider, Instruments] = WeakKeyDictionary()


def instruments_of(provider: MeterProvider) -> Instruments:
    """The instruments of a meter provider, created once."""
    if provider not in _known:
        _known[provider] = Instruments(provider.get_meter(SCOPE, version(SCOPE)))
    return _known[provider]


def _connections(source: Source) -> Iterable[Measurement]:
    if source.sql is not None:
        used = source.sql.database.usage
        pool = {"db.client.connection.pool.name": source.pool}
        yield used.used, pool | {"db.client.connection.state": "used"}
        yield used.idle, pool | {"db.client.connection.state": "idle"}


def _most(source: Source) -> Iterable[Measurement]:
    if source.sql is not None and (most := source.sql.database.usage.most) is not None:
        yield most, {"db.client.connection.pool.name": source.pool}


def _pending(source: Source) -> Iterable[Measurement]:
    if source.sql is not None:
        yield source.sql.database.usage.pending, {"db.client.connection.pool.name": source.pool}


def _queued(source: Source) -> Iterable[Measurement]:
    if source.sql is not None:
        reads, writes = source.sql.repository.queued
        yield reads, source.of("read")
        yield writes, source.of("write")


def _cache(name: str) -> Callable[[Source], Iterable[Measurement]]:
    def measure(source: Source) -> Iterable[Measurement]:
        if source.cache is not None:
            yield getattr(source.cache.statistics, name), source.common

    return measure


def _bus(name: str) -> Callable[[Source], Iterable[Measurement]]:
    def measure(source: Source) -> Iterable[Measurement]:
        bus = None if source.cache is None else source.cache.statistics.bus
        if bus is not None and (value := getattr(bus, name)) is not None:
            yield value, source.common

    return measure
