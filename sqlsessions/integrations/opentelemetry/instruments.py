"""The instruments of OpenTelemetry: one set for each provider of meters, whatever storages use it."""

from __future__ import annotations

from collections import Counter as Sums
from collections.abc import Callable, Iterable
from importlib.metadata import version
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation

from ...purging import Purged
from .source import Source

SCOPE = "sqlsessions"
SECONDS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0]  # as the convention has them
SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256]

Figure = tuple[int, dict[str, Any]]


class Instruments:
    """What is measured.

    Args:
        meter: Makes the instruments.
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
            "SessionRepository on sessions that went to the database together.",
            explicit_bucket_boundaries_advisory=SIZES,
        )
        self.lookups = count("sqlsessions.lookups", "{lookup}", "Session ids that were looked up.")
        self.conflicts = count(
            "sqlsessions.conflicts", "{conflict}", "SessionRepository refused by a conflict."
        )
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

    def purged(self, purged: Purged, attributes: dict[str, Any]) -> None:
        """A purge has come to its end."""
        self._purged.add(purged.sessions, attributes)
        self._chunks.add(purged.chunks, attributes)
        self._rounds.add(1, attributes)

    def watch(self, source: Source) -> None:
        """Include a storage in what is observed."""
        with self._lock:
            self._sources.add(source)

    def forget(self, source: Source) -> None:
        """Leave it out again."""
        with self._lock:
            self._sources.discard(source)

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
            "Connections that there may be.",
        )
        level(
            "db.client.connection.pending_requests",
            [self._callback(_pending)],
            "{request}",
            "SessionRepository that wait for a connection.",
        )
        gauge(
            "sqlsessions.queue.depth",
            [self._callback(_queued)],
            "{operation}",
            "SessionRepository that wait for a batch.",
        )
        for name, unit in (("hits", "{hit}"), ("misses", "{miss}"), ("evictions", "{entry}")):
            total(
                f"sqlsessions.cache.{name}",
                [self._callback(_cache(name))],
                unit,
                f"{name.title()} of the cache.",
            )
        for name, unit in (("entries", "{entry}"), ("bytes", "By")):
            level(f"sqlsessions.cache.{name}", [self._callback(_cache(name))], unit, f"{name.title()} held.")

    def _callback(
        self, figures: Callable[[Source], Iterable[Figure]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        """Adds up what storages with the same attributes show: two of one database share a pool's name."""

        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            with self._lock:
                sources = list(self._sources)
            sums: Sums[tuple[tuple[str, Any], ...]] = Sums()
            for source in sources:
                for value, attributes in figures(source):
                    sums[tuple(attributes.items())] += value
            return [Observation(value, dict(attributes)) for attributes, value in sums.items()]

        return observe


_known: WeakKeyDictionary[MeterProvider, Instruments] = WeakKeyDictionary()


def instruments_of(provider: MeterProvider) -> Instruments:
    """The instruments of a provider."""
    if provider not in _known:
        _known[provider] = Instruments(provider.get_meter(SCOPE, version(SCOPE)))
    return _known[provider]


def _connections(source: Source) -> Iterable[Figure]:
    if source.sql is not None:
        used = source.sql._database.usage  # noqa: SLF001 (this package's own)
        pool = {"db.client.connection.pool.name": source.pool}
        yield used.used, pool | {"db.client.connection.state": "used"}
        yield used.idle, pool | {"db.client.connection.state": "idle"}


def _most(source: Source) -> Iterable[Figure]:
    if source.sql is not None and (most := source.sql._database.usage.most) is not None:  # noqa: SLF001
        yield most, {"db.client.connection.pool.name": source.pool}


def _pending(source: Source) -> Iterable[Figure]:
    if source.sql is not None:
        yield source.sql._database.usage.pending, {"db.client.connection.pool.name": source.pool}  # noqa: SLF001


def _queued(source: Source) -> Iterable[Figure]:
    if source.sql is not None:
        reads, writes = source.sql._repository.queued  # noqa: SLF001
        yield reads, source.of("read")
        yield writes, source.of("write")


def _cache(name: str) -> Callable[[Source], Iterable[Figure]]:
    def figures(source: Source) -> Iterable[Figure]:
        if source.cache is not None:
            yield getattr(source.cache.statistics, name), source.common

    return figures
