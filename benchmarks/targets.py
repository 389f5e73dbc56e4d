"""What the project set out to show, each with what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import floor
from statistics import median
from typing import Any

Results = dict[str, Any]

RATIOS = [  # ours, against, callers, operation, at least
    ("sqlsessions, PostgreSQL", "starsessions, Redis", 64, "read", 2.0),
    ("sqlsessions, PostgreSQL", "starsessions, Redis", 64, "write", 1.5),
    ("sqlsessions, PostgreSQL", "advanced-alchemy store, PostgreSQL", 64, "read", 20.0),
    ("sqlsessions, PostgreSQL", "advanced-alchemy store, PostgreSQL", 64, "write", 20.0),
    ("sqlsessions, SQLite FULL", "Django async sessions, SQLite FULL", 64, "read", 20.0),
    ("sqlsessions, SQLite FULL", "Django async sessions, SQLite FULL", 64, "write", 20.0),
    ("sqlsessions, MariaDB", "SQLAlchemy Core per call, MariaDB", 64, "read", 3.0),
    ("sqlsessions, MariaDB", "SQLAlchemy Core per call, MariaDB", 64, "write", 3.0),
]
CLIENT_RATIOS = [  # likewise
    ("sqlsessions, PostgreSQL", "valkey-glide, Redis always", 64, "read", 4.0),
    ("sqlsessions, PostgreSQL", "valkey-glide, Redis always", 64, "write", 2.5),
    ("sqlsessions, PostgreSQL", "valkey-glide, Redis", 64, "read", 4.0),
    ("sqlsessions, PostgreSQL", "valkey-glide, Redis", 64, "write", 1.5),
    ("sqlsessions, PostgreSQL", "redis-py, Redis always", 1, "read", 1.0),
    ("sqlsessions, PostgreSQL", "redis-py, Redis always", 1, "write", 1.0),
    ("sqlsessions, PostgreSQL", "raw asyncpg pool", 64, "read", 4.0),
    ("sqlsessions, PostgreSQL", "raw asyncpg pool", 64, "write", 4.0),
    ("sqlsessions, PostgreSQL", "raw asyncpg pool", 1, "read", 1.5),
    ("sqlsessions, PostgreSQL", "raw asyncpg pool", 1, "write", 1.0),
    ("sqlsessions, SQLite FULL", "raw aiosqlite FULL", 64, "read", 1.5),
    ("sqlsessions, SQLite FULL", "raw aiosqlite FULL", 64, "write", 1.5),
    ("sqlsessions, SQLite FULL", "raw aiosqlite FULL", 1, "read", 0.8),
    ("sqlsessions, SQLite FULL", "raw aiosqlite FULL", 1, "write", 0.8),
    ("sqlsessions, MariaDB", "raw asyncmy pool, MariaDB", 64, "read", 4.0),
    ("sqlsessions, MariaDB", "raw asyncmy pool, MariaDB", 64, "write", 2.5),
    ("sqlsessions, MySQL", "raw asyncmy pool, MySQL", 64, "read", 4.0),
    ("sqlsessions, MySQL", "raw asyncmy pool, MySQL", 64, "write", 2.5),
]
CPU = [  # as above, at most
    ("sqlsessions, PostgreSQL", "valkey-glide, Redis", 64, "read", 0.25),
    ("sqlsessions, PostgreSQL", "valkey-glide, Redis", 64, "write", 0.4),
]
DISTANCES = [  # place, and as above
    ("1 ms of round trip", "sqlsessions, PostgreSQL", "valkey-glide, Redis", 256, "read", 1.5),
    ("1 ms of round trip", "sqlsessions, PostgreSQL", "valkey-glide, Redis", 256, "write", 1.0),
    ("1 ms of round trip", "sqlsessions, PostgreSQL", "valkey-glide, Redis always", 256, "read", 1.5),
    ("1 ms of round trip", "sqlsessions, PostgreSQL", "valkey-glide, Redis always", 256, "write", 1.0),
    ("commits of 20 ms", "sqlsessions, PostgreSQL", "raw asyncpg pool", 1024, "write", 8.0),
    ("SQLite, fsync of 2 ms", "sqlsessions, SQLite FULL", "raw aiosqlite FULL", 64, "write", 8.0),
]
WEB = [  # against, operation, at least
    ("Starlette's cookie", "read", 0.75),
    ("Starlette's cookie", "write", 0.5),
    ("starsessions, Redis", "read", 2.5),
    ("starsessions, Redis", "write", 2.5),
]
SIZE = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A line of the table.

    Attributes:
        name: What is measured.
        value: What was measured.
        bound: What was wanted of it.
        unit: Of both.
        least: Whether the bound is the least wanted, else the most.
        spread: The least and the most that a round showed.
    """

    name: str
    value: float
    bound: float
    unit: str = "×"  # noqa: RUF001
    least: bool = True
    spread: tuple[float, float] | None = None

    @property
    def met(self) -> bool:
        """Whether it is as wanted."""
        return self.value >= self.bound if self.least else self.value <= self.bound

    def cells(self) -> tuple[str, ...]:
        """The line, as text."""
        word = "at least" if self.least else "at most"
        value, bound = _number(self.value), _number(self.bound)
        spread = " – ".join(map(_number, self.spread)) if self.spread else ""  # noqa: RUF001
        return (
            self.name,
            f"{value} {self.unit}",
            spread,
            f"{word} {bound} {self.unit}",
            "met" if self.met else "missed",
        )


def ratios(results: Results, ours: str, theirs: str, key: str = "rate", **cell: Any) -> list[float]:
    """Our rate by theirs in each round, or another figure; none where one of them was not measured."""
    mine, other = (_figures(results, key, peer=peer, **cell) for peer in (ours, theirs))
    return [one / two for one, two in zip(mine, other, strict=True)] if mine and other else []


def _rounds(
    name: str,
    values: list[float],
    bound: float,
    unit: str = "×",  # noqa: RUF001
    *,
    least: bool = True,
) -> Target:
    return Target(name, median(values), bound, unit, least, (min(values), max(values)))


def _figures(results: Results, key: str, **wanted: Any) -> list[float]:
    for cell in results["cells"]:
        if wanted.items() <= cell.items():
            return [sample[key] for sample in cell["rounds"]]
    return []


def _day(results: Results, **wanted: Any) -> str:
    return next(str(cell["measured"]) for cell in results["cells"] if wanted.items() <= cell.items())


def _callers(number: int) -> str:
    return "1 caller" if number == 1 else f"{number:,} callers"


def throughput(results: Results) -> Iterator[Target]:
    """Ratios of rates against other ways to keep sessions, under each event loop."""
    yield from _against(results, CLIENT_RATIOS)
    yield from _against(results, RATIOS)


def clients(results: Results) -> Iterator[Target]:
    """Ratios of rates, and of CPU seconds, against clients and drivers by hand."""
    yield from _against(results, CLIENT_RATIOS)
    for loop in _loops(results):
        for ours, theirs, callers, op, bound in CPU:
            cell: dict[str, Any] = {"loop": loop, "callers": callers, "op": op, "size": SIZE}
            if found := ratios(results, ours, theirs, "cpu", **cell):
                who = f"{ours}, {_callers(callers)}, {op}, against {theirs}"
                name = f"CPU of the client, {who} ({loop}, {_day(results, **cell)})"
                yield _rounds(name, found, bound, least=False)


def _against(results: Results, wanted: list[tuple[str, str, int, str, float]]) -> Iterator[Target]:
    for loop in _loops(results):
        for ours, theirs, callers, op, bound in wanted:
            cell: dict[str, Any] = {"loop": loop, "callers": callers, "op": op, "size": SIZE}
            if found := ratios(results, ours, theirs, **cell):
                name = (
                    f"{ours}, {_callers(callers)}, {op}, against {theirs} ({loop}, {_day(results, **cell)})"
                )
                yield _rounds(name, found, bound)


def _loops(results: Results) -> list[str]:
    return list(dict.fromkeys(cell["loop"] for cell in results["cells"]))


def distances(results: Results) -> Iterator[Target]:
    """Ratios of rates where servers are not next door."""
    for place, ours, theirs, callers, op, bound in DISTANCES:
        if found := ratios(results, ours, theirs, place=place, callers=callers, op=op):
            yield _rounds(f"{place}: {ours}, {_callers(callers)}, {op}, against {theirs}", found, bound)


def cache(results: Results) -> Iterator[Target]:
    """Hits per second."""
    for hits in results["hits"]:
        name = f"cache hits by `read_bytes` ({hits['loop']})"
        yield _rounds(name, hits["rates"], 200_000, "per second")


def streaming(results: Results) -> Iterator[Target]:
    """Rates against the raw driver's."""
    for row in results["rows"]:
        found = [mine / raw for mine, raw in zip(row["ours"], row["raw"], strict=True)]
        yield _rounds(f"streaming {row['size']} MiB, {row['op']}, against {row['against']}", found, 0.8)


def web(results: Results) -> Iterator[Target]:
    """Requests against those of the same app with other sessions."""
    rates = {(row["name"], row["op"]): row["rates"] for row in results["rows"]}
    for ours in dict.fromkeys(name for name, _ in rates if name.startswith("sqlsessions, ")):
        for theirs, op, bound in WEB:
            mine, other = rates.get((ours, op)), rates.get((theirs, op))
            if mine and other:
                found = [one / two for one, two in zip(mine, other, strict=True)]
                yield _rounds(f"Starlette app, {ours}, {op}, against {theirs}", found, bound)


def memory(results: Results) -> Iterator[Target]:
    """Peak memory growth."""
    for row in results["rows"]:
        name = f"peak memory beyond payloads, {row['callers']:,} callers write 16 KiB each, {row['server']}"
        yield Target(name, row["growth"], 64, "MiB", least=False)


def postgres(results: Results) -> Iterator[Target]:
    """HOT share and WAL of touches."""
    yield Target("HOT share of touches, PostgreSQL", floor(results["touch"]["hot"] * 10_000) / 100, 99, "%")
    yield Target("WAL per touch without full-page images", results["touch"]["wal"], 150, "B", least=False)
    name = "WAL per touch right after a checkpoint, with full-page images"
    yield Target(name, results["touch"]["wal_images"], 150, "B", least=False)


def growth(results: Results) -> Iterator[Target]:
    """Cost at size, and during a purge."""
    reads: dict[str, dict[int, float]] = {}
    for row in results["sizes"]:
        reads.setdefault(row["server"], {})[row["sessions"]] = row["read"]["p50"]
    for server, p50 in reads.items():
        small, large = min(p50), max(p50)
        if large > small:
            name = f"read p50 at {large:,} sessions against {small:,}, {server}"
            yield Target(name, p50[large] / p50[small], 1.5, least=False)
    for row in results["purges"]:
        name = f"p99 of reads during a purge of {row['expired']:,} rows against without, {row['server']}"
        yield Target(name, row["during"]["p99"] / row["without"]["p99"], 3.0, least=False)


EXTRACT: dict[str, Callable[[Results], Iterator[Target]]] = {
    "throughput": throughput,
    "clients": clients,
    "distances": distances,
    "cache": cache,
    "streaming": streaming,
    "web": web,
    "memory": memory,
    "postgres": postgres,
    "growth": growth,
}


def targets(results: dict[str, Results]) -> list[Target]:
    """The lines that the results of some benchmarks, by name, allow."""
    return [
        target for name, extract in EXTRACT.items() if name in results for target in extract(results[name])
    ]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 100 else f"{value:.2f}"
