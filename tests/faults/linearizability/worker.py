"""A process with a storage and some clients, told by its standard input what to do.

Events go to standard output, each in one write before or after the call that it is about, so that they outlive
the process.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress
from typing import Any

from sqlsessions import SqlSessionStorage, StorageUnavailable

from .clients import LIMITS, Client, Habits


def tell(event: dict[str, Any]) -> None:
    os.write(1, json.dumps(event).encode() + b"\n")


async def main(url: str, options: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    async with SqlSessionStorage(url, **LIMITS, **options) as storage:
        with suppress(StorageUnavailable):
            await storage.info("anything, to open a connection")
        tell({"ready": True})
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            task = json.loads(line)
            habits = Habits(**task["habits"])
            versions: dict[int, int] = {}
            clients = [
                Client(storage, task["ids"], number, f"{task['seed']} {number}", tell, habits, versions)
                for number in task["clients"]
            ]
            await asyncio.gather(*(client.run() for client in clients))
            tell({"done": True})


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
