"""`python -m benchmarks`: measure, then write tables and plots."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import cache, coherence, distances, growth, memory, postgres, streaming, throughput, web
from .environment import environment
from .peers import CLIENTS
from .report import markdown, must_show
from .targets import targets
from .worker import say

LOOPS = ("asyncio", "uvloop")
SERVERS = ("postgresql", "mariadb", "mysql", "sqlite", "redis", "redis-always")


def main() -> None:
    """Run what was asked for."""
    options = _options()
    quick, rounds, servers = options.quick, options.rounds, options.server or SERVERS
    measures: dict[str, Callable[[], dict[str, Any] | None]] = {
        "throughput": lambda: throughput.collect(
            rounds=rounds,
            quick=quick,
            servers=servers,
            save=lambda part: save("throughput", part),
            settings=options.setting or (),
            loops=options.loop or LOOPS,
            kept=kept("throughput") if options.setting or options.loop else (),
            length=options.seconds,
        ),
        "clients": lambda: throughput.collect(
            rounds=rounds,
            quick=quick,
            servers=servers,
            save=lambda part: save("clients", part),
            settings=options.setting or throughput.CLIENT_SETTINGS,
            loops=options.loop or LOOPS,
            peers=tuple(CLIENTS),
            kept=kept("clients") if options.setting or options.loop else (),
            length=options.seconds,
        ),
        "distances": lambda: distances.collect(
            rounds=rounds,
            quick=quick,
            servers=servers,
            save=lambda part: save("distances", part),
            places=options.place or tuple(distances.PLACES),
            kept=kept("distances") if options.place else (),
        ),
        "cache": lambda: cache.collect(rounds=rounds, quick=quick),
        "streaming": lambda: streaming.collect(rounds=rounds, quick=quick, servers=servers),
        "web": lambda: web.collect(rounds=rounds, quick=quick, servers=servers),
        "memory": lambda: memory.collect(quick=quick, servers=servers),
        "postgres": lambda: postgres.collect(quick=quick, servers=servers),
        "coherence": lambda: coherence.collect(rounds=rounds, quick=quick, servers=servers),
        "growth": lambda: growth.collect(rounds=rounds, quick=quick, full=options.full, servers=servers),
    }
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "results.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def kept(name: str) -> list[dict[str, Any]]:
        cells: list[dict[str, Any]] = results.get(name, {}).get("cells", [])
        return cells

    def save(name: str, found: dict[str, Any]) -> None:
        results[name] = found | {"rounds": rounds, "quick": quick, "measured": _today()}
        results["environment"] = environment()
        file.write_text(json.dumps(results, indent=1) + "\n")

    for name in options.only or measures:
        say(f"== {name}")
        if found := measures[name]():
            save(name, found)
    (folder / "results.md").write_text(markdown(results))
    say(must_show(targets(results)))
    try:
        from .plots import plot
    except ImportError as error:
        say(f"plots: skipped, {error.name} is not installed")
    else:
        plot(results, folder)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    names = (
        "throughput",
        "clients",
        "distances",
        "cache",
        "streaming",
        "web",
        "memory",
        "postgres",
        "coherence",
        "growth",
    )
    add("--quick", action="store_true", help="small and short: whether it works, not how fast")
    add("--full", action="store_true", help="with ten million sessions (15 GB of free disk)")
    add("--only", action="append", choices=names, help="this benchmark; may be repeated")
    add("--server", action="append", choices=SERVERS, help="only what needs this server; may be repeated")
    add(
        "--setting",
        action="append",
        type=_setting,
        help="of throughput and clients, only this, as CALLERSxBYTES; may be repeated",
    )
    add(
        "--loop",
        action="append",
        choices=("asyncio", "uvloop"),
        help="of both, only this; may be repeated",
    )
    add("--place", action="append", choices=distances.PLACES, help="of distances, only this; may be repeated")
    add("--seconds", type=float, default=throughput.SECONDS, help="of each slice of both (0.3)")
    add("--rounds", type=int, default=5, help="rounds of each comparison; medians count (5)")
    add("--output", type=Path, default=Path("benchmarks/results"), help="folder; what is there is kept up")
    return parser.parse_args()


def _setting(text: str) -> tuple[int, int]:
    callers, _, size = text.partition("x")
    return int(callers), int(size)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


if __name__ == "__main__":
    main()
