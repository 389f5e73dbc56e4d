"""Record histories and check them: `python -m tests.faults.linearizability --help`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

from sqlalchemy import make_url

from sqlsessions import schema

from .clients import Habits
from .history import KEPT
from .judging import judge
from .recorder import FAULTS, Plan


def main() -> int:
    parser = argparse.ArgumentParser(description="Record histories of several processes, and check them.")
    parser.add_argument(
        "--url", action="append", required=True, help="the database; repeat it for one per worker"
    )
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--clients", type=int, default=3, help="of each process")
    parser.add_argument("--ids", type=int, default=3, help="session ids that all clients share")
    parser.add_argument("--together", type=int, default=1, help="histories recorded at the same time")
    parser.add_argument("--operations", type=int, default=20, help="of each client in a history")
    parser.add_argument("--large", type=float, default=Habits.large, help="share of writes that is chunked")
    parser.add_argument("--histories", type=int, help="how many; else as many as the time allows")
    parser.add_argument(
        "--calls", type=int, help="how many in all histories; else as many as the time allows"
    )
    parser.add_argument("--seconds", type=float, help="how long; 30 unless --histories or --calls is given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", default="", help=f"of {', '.join(FAULTS[:-1])}, with commas between")
    parser.add_argument("--options", default="{}", help="more arguments of each storage, as JSON")
    parser.add_argument(
        "--staleness", type=float, default=0.0, help="seconds by which a look may be behind, as with a cache"
    )
    parser.add_argument("--bus", help="the URL of what carries notices, for the fault bus")
    parser.add_argument("--keep-in", type=Path, default=KEPT, help="where histories that fail go")
    given = parser.parse_args()
    plan = Plan(
        urls=given.url,
        faults=frozenset(fault for fault in given.faults.split(",") if fault),
        seed=given.seed,
        processes=given.processes,
        clients=given.clients,
        ids=given.ids,
        together=given.together,
        habits=Habits(operations=given.operations, large=given.large),
        options=json.loads(given.options),
        staleness=given.staleness,
        bus=given.bus,
    )
    unlimited = given.histories is None and given.calls is None and given.seconds is None
    seconds = 30.0 if unlimited else given.seconds
    name = make_url(given.url[0]).get_backend_name()
    asyncio.run(schema.upgrade(given.url[0]))
    findings = asyncio.run(
        judge(
            plan,
            histories=given.histories,
            operations=given.calls,
            seconds=seconds,
            keep_in=given.keep_in,
            name=name,
        )
    )
    sys.stdout.write(f"{findings}\n")
    for outcome, count in sorted(findings.outcomes.items()):
        sys.stdout.write(f"  {outcome}: {count}\n")
    return 0 if findings.clean else 1


if __name__ == "__main__":
    sys.exit(main())
