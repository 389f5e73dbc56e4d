"""Visits a service in a process of its own: ``python -m tests.integrations.changing FRAMEWORK URL ID NAME``.

Says that it is ready, waits for a line, then sends all requests at once. Prints what the visits gave.
"""

from __future__ import annotations

import asyncio
import json
import sys
import warnings

from sqlsessions import SqlSessionStorage
from sqlsessions.testing import Browser, Send

from . import service_of


async def burst(services: list[Send], id: str, name: str, requests: int) -> list[int]:
    """Send visits and items for the cart to services in turn, all at once; gives what the visits gave."""
    browsers = [Browser(services[number % len(services)], "session", id) for number in range(requests)]
    async with asyncio.TaskGroup() as group:
        visits = [group.create_task(browser.post("/visit")) for browser in browsers]
        for number, browser in enumerate(browsers):
            group.create_task(browser.other(id).post("/add", item=f"{name} {number}"))
    return [visit.result().json() for visit in visits]


async def main(framework: str, url: str, id: str, name: str) -> None:
    """Send requests when told to."""
    async with service_of(framework)(SqlSessionStorage(url)) as service:
        await Browser(service, "session", id).data()  # so that all is imported and connected
        print("ready", flush=True)  # noqa: T201 (to the test)
        requests = int(await asyncio.to_thread(sys.stdin.readline))
        print(json.dumps(await burst([service], id, name, requests)), flush=True)  # noqa: T201


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # those of frameworks about each other
    asyncio.run(main(*sys.argv[1:]))
