"""Runs one measurement in a process of its own: `python -m benchmarks.worker MODULE LOOP ARGUMENTS`."""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys
from typing import Any

from .own_servers import slowed


def run(module: str, loop: str = "asyncio", *, fsync: float = 0.0, **arguments: Any) -> Any:
    """What `measure` of a module of this package gives for some arguments, in a new process.

    Args:
        module: For instance ``throughput``.
        loop: ``asyncio`` or ``uvloop``.
        fsync: Seconds that each fsync of the process takes besides.
        arguments: Anything that JSON can say.

    Raises:
        Unavailable: If no process can be slowed here.
    """
    command = slowed([sys.executable, "-m", __name__, module, loop, json.dumps(arguments)], fsync)
    # Not subprocess.run, which on an interrupt kills the process before it has dropped its databases.
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{module} failed")
    return json.loads(output.splitlines()[-1])


def say(text: str) -> None:
    """Report progress, where it is not taken for the result."""
    print(text, file=sys.stderr, flush=True)


def _main(module: str, loop: str, arguments: str) -> None:
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    measure = importlib.import_module(f"{__package__}.{module}").measure
    with asyncio.Runner(loop_factory=factory) as runner:
        print(json.dumps(runner.run(measure(**json.loads(arguments)))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
