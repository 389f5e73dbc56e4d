"""Two commits side by side: `python -m benchmarks.compare_commits OLD [NEW]`.

A process for each, which has the package as it is in that commit, does the same work by turns, round after round: what
else goes on slows both. It calls a storage, or with ``--web`` an application whose requests read or write a
session. The rate and the CPU seconds of an operation in the new one are shown by those in the old one. The benchmarks
are those of this checkout, and each side has a database of its own on the same server.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any

from .report import table
from .worker import say

ROOT = Path(__file__).parent.parent
SERVERS = ("postgresql", "sqlite", "mariadb", "mysql")
SESSIONS = 1000
SIZE = 1024
Work = tuple[dict[str, Callable[[str], Awaitable[Any]]], list[str]]
Samples = list[tuple[dict[str, float], dict[str, float]]]


def place(commit: str | None, folder: Path) -> None:
    """Lay out the package of a commit as a wheel does, with the benchmarks of this checkout beside it.

    Args:
        commit: Any name that git knows; None is the working tree as it is.
        folder: Where to.
    """
    parts = ("sqlsessions", "migrations")
    if commit is None:
        for part in parts:
            shutil.copytree(ROOT / part, folder / part)
    else:
        command = ["git", "-C", str(ROOT), "archive", "--format=tar", commit, *parts]
        packed = subprocess.run(command, check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
    (folder / "migrations").rename(folder / "sqlsessions" / "migrations")
    (folder / "benchmarks").symlink_to(ROOT / "benchmarks")


class Side:
    """A process that has one of the commits."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @asynccontextmanager
    async def of(cls, commit: str | None, server: str, loop: str, *, web: str | None) -> AsyncIterator[Side]:
        """Start it, with a database that it drops in the end."""
        with tempfile.TemporaryDirectory() as folder:
            place(commit, Path(folder))
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            process = await asyncio.create_subprocess_exec(
                *(
                    sys.executable,
                    "-m",
                    "benchmarks.compare_commits",
                    "--serve",
                    server,
                    "--loop",
                    loop,
                    "this",
                ),
                *(("--web", web) if web else ()),
                cwd=folder,
                env=environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            side = cls(process)
            try:
                package = (await side.ask())["package"]  # once the database is filled
                if not package.startswith(folder):
                    raise RuntimeError(f"it would measure {package}")
                yield side
            finally:
                assert process.stdin is not None
                process.stdin.close()
                await process.wait()

    async def ask(self, **slice: Any) -> dict[str, Any]:
        """What a slice of load showed; without arguments, where the package is that it has."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(slice).encode() + b"\n")
        answer: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return answer


async def serve(server: str, *, web: str | None) -> None:
    """Do what each line of standard input says, and answer by a line."""
    import sqlsessions

    from .load import drive
    from .scratch import database

    def answer(found: dict[str, Any]) -> None:
        print(json.dumps(found), flush=True)

    async with database(server) as url, _requests(web, url) if web else _calls(url) as (calls, names):
        while line := await asyncio.to_thread(sys.stdin.readline):
            if work := json.loads(line):
                answer((await drive(calls[work.pop("op")], names, **work)).json())
            else:
                answer({"package": sqlsessions.__file__})


@asynccontextmanager
async def _calls(url: str) -> AsyncIterator[Work]:
    """Calls of a storage, and the ids of its sessions."""
    from sqlsessions import SqlSessionStorage, new_session_id

    from .load import blob

    ids, data = [new_session_id() for _ in range(SESSIONS)], blob(SIZE)
    variants = cycle([number.to_bytes(4) + data[4:] for number in range(64)])
    async with SqlSessionStorage(url) as storage:

        async def write(id: str) -> None:
            await storage.write_bytes(id, next(variants))

        await asyncio.gather(*map(write, ids))
        yield {"read": storage.read_bytes, "write": write}, ids


@asynccontextmanager
async def _requests(side: str, url: str) -> AsyncIterator[Work]:
    """Requests to an application, and the cookies of its sessions."""
    from .web_calls import logged_in, requested

    app, cookies = await logged_in(side, url, SESSIONS)
    yield {"read": partial(requested, app, "/"), "write": partial(requested, app, "/write")}, cookies


async def compare(
    old: str | None,
    new: str | None,
    server: str,
    loop: str,
    callers: list[int],
    rounds: int,
    seconds: float,
    *,
    web: str | None = None,
) -> dict[tuple[int, str], Samples]:
    """The samples of both in each round, by callers and operation."""
    found: dict[tuple[int, str], Samples] = {}
    async with AsyncExitStack() as stack:
        sides = [
            await stack.enter_async_context(Side.of(commit, server, loop, web=web)) for commit in (old, new)
        ]
        for number in range(rounds + 1):  # the first opens connections, and is short
            for many in callers:
                for op in ("read", "write"):
                    pair: list[dict[str, float]] = [{}, {}]
                    for which in (0, 1) if number % 2 else (1, 0):
                        work = {"op": op, "callers": many, "seconds": seconds if number else seconds / 6}
                        pair[which] = await sides[which].ask(**work)
                    if number:
                        found.setdefault((many, op), []).append((pair[0], pair[1]))
            say(f"{server}: round {number} of {rounds}")
    return found


def lines(server: str, found: dict[tuple[int, str], Samples]) -> Iterator[tuple[str, ...]]:
    """A line for each kind of work: rates and CPU seconds of both, and the new by the old."""
    for (callers, op), samples in found.items():
        cells = [server, str(callers), op]
        for key, form in (("rate", ",.0f"), ("cpu", ".3f")):
            ratios = [new[key] / before[key] for before, new in samples]
            cells += [format(median(pair[side][key] for pair in samples), form) for side in (0, 1)]
            cells.append(f"{median(ratios):.3f} ({min(ratios):.2f} – {max(ratios):.2f})")  # noqa: RUF001
        yield tuple(cells)


def main() -> None:
    """Compare on each server, or be one of the sides."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare_commits", description=__doc__)
    parser.add_argument("old", help="a commit")
    parser.add_argument("new", nargs="?", help="another; unless given, the working tree")
    parser.add_argument(
        "--server", action="append", choices=SERVERS, help="may be repeated (postgresql, sqlite)"
    )
    parser.add_argument("--callers", type=int, action="append", help="at once; may be repeated (64, 1)")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--rounds", type=int, default=11, help="of each comparison; medians count (11)")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each slice (0.3)")
    parser.add_argument(
        "--web", choices=("ours", "eager"), help="requests, with sessions read when accessed or before"
    )
    parser.add_argument("--serve", choices=SERVERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        factory = None
        if options.loop == "uvloop":
            import uvloop

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(serve(options.serve, web=options.web))
        return
    rows: list[tuple[str, ...]] = []
    for server in options.server or SERVERS[:2]:
        found = asyncio.run(
            compare(
                options.old,
                options.new,
                server,
                options.loop,
                options.callers or [64, 1],
                options.rounds,
                options.seconds,
                web=options.web,
            )
        )
        rows += lines(server, found)
    by = "new by old"
    head = ["", "callers", "", "old op/s", "new op/s", by, "old CPU s / 10,000", "new CPU s / 10,000", by]
    print(table(head, rows))


if __name__ == "__main__":
    main()
