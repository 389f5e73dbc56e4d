"""`python -m tests.faults.logins --framework flask --url postgresql://...`; exits with 1 if anything is lost.

The database gets its tables, and is not emptied. Without ``--url`` it is a new SQLite file.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time

from sqlsessions import schema

from .harness import run
from .service import FRAMEWORKS


def main() -> int:
    """Run it, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--framework", choices=FRAMEWORKS, default="starlette")
    parser.add_argument("--url", help="the database; a new SQLite file unless set")
    parser.add_argument("--logins", type=int, default=10_000)
    parser.add_argument("--browsers", type=int, default=25)
    parser.add_argument("--delay", type=float, default=0.2, help="the longest, in seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = options.url or f"sqlite:///{folder}/sessions.db"
        asyncio.run(schema.upgrade(url))
        begun = time.monotonic()
        losses = run(
            url,
            framework=options.framework,
            logins=options.logins,
            browsers=options.browsers,
            delay=options.delay,
        )
    seconds = time.monotonic() - begun
    sys.stdout.write(
        f"{losses.rounds} logins and logouts, {losses.requests} requests in {seconds:.0f} s: "
        f"lost logins {losses.lost_logins}, lost logouts {losses.lost_logouts}, "
        f"foreign data {losses.foreign_data}, errors {losses.errors}\n"
    )
    for kind, example in losses.examples.items():
        sys.stdout.write(f"{kind}: {example}\n")
    return 1 if losses.total else 0


if __name__ == "__main__":
    sys.exit(main())
