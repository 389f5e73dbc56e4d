"""Whether it has become slower: `python -m benchmarks.regression`, in about two minutes.

Only ratios against what was measured in the same run count, and those of the last run, which the repository keeps, are
shown beside them. Figures that moved far apart say where to look with `python -m benchmarks.compare_commits`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from .environment import environment
from .environment import now as environment_now
from .report import table
from .throughput import collect
from .worker import say

PAIRS = {
    "sqlsessions, PostgreSQL": ("raw asyncpg pool", "valkey-glide, Redis always"),
    "sqlsessions, MariaDB": ("raw asyncmy pool, MariaDB",),
    "sqlsessions, SQLite FULL": ("raw aiosqlite FULL",),
}
SETTINGS = ((64, 1024), (1, 1024))
"""Callers and bytes."""

SERVERS = ("postgresql", "mariadb", "sqlite", "redis-always")
KEPT = Path(__file__).parent / "results" / "regression.json"
Ratios = dict[str, dict[str, list[float]]]


def ratios(cells: list[dict[str, Any]]) -> Ratios:
    """Ours by theirs in each round: of rates, where more is better, and of CPU seconds, where less is."""
    found: Ratios = {}
    by_peer = {(cell["peer"], cell["callers"], cell["op"]): cell["rounds"] for cell in cells}
    for (ours, callers, op), mine in by_peer.items():
        for theirs in PAIRS.get(ours, ()):
            if other := by_peer.get((theirs, callers, op)):
                who = "1 caller" if callers == 1 else f"{callers} callers"
                found[f"{ours}, {who}, {op}, against {theirs}"] = {
                    key: [round(one[key] / two[key], 3) for one, two in zip(mine, other, strict=True)]
                    for key in ("rate", "cpu")
                }
    return found


def changes(now: Ratios, before: Ratios) -> Iterator[tuple[str, ...]]:
    """A line for each comparison; ``worse`` where every round was worse than each of the last run."""
    for name, found in now.items():
        rate, cpu = found["rate"], found["cpu"]
        line = [name, _spread(rate), "", _spread(cpu), "", ""]
        if last := before.get(name):
            line[2], line[4] = _spread(last["rate"]), _spread(last["cpu"])
            worse = max(rate) < min(last["rate"]) or min(cpu) > max(last["cpu"])
            line[5] = "worse" if worse else ""
        yield tuple(line)


def main() -> None:
    """Measure, show, and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.regression", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each comparison; medians count (5)")
    parser.add_argument("--quick", action="store_true", help="very short: whether it works")
    parser.add_argument("--server", action="append", choices=SERVERS, help="may be repeated")
    parser.add_argument("--kept", type=Path, default=KEPT, help="file of the last run, which is replaced")
    options = parser.parse_args()
    peers = {*PAIRS, *(name for names in PAIRS.values() for name in names)}
    begun = environment_now()
    results = collect(
        rounds=options.rounds,
        quick=options.quick,
        servers=options.server or SERVERS,
        save=lambda _: None,
        settings=SETTINGS,
        loops=("asyncio",),
        peers=sorted(peers),
    )
    now = ratios(results["cells"])
    kept = json.loads(options.kept.read_text()) if options.kept.exists() else {"ratios": {}}
    head = ["", "rate", "last time", "CPU", "last time", ""]
    print(table(head, changes(now, kept["ratios"])))
    for name, why in results["skipped"].items():
        say(f"skipped: {name}, {why}")
    result = begun | {"environment": environment(), "ratios": now}
    options.kept.write_text(json.dumps(result, indent=1) + "\n")


def _spread(values: list[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} – {max(values):.2f})"  # noqa: RUF001


if __name__ == "__main__":
    main()
