"""One process of a service: `python -m tests.faults.logins.service FRAMEWORK URL`.

Its workers are the standard application of the contract of integrations, each with a storage and a port of its own. It
prints the ports, and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import sys
import time
import warnings
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib import import_module
from typing import Any

import uvicorn

from sqlsessions import SqlSessionStorage
from sqlsessions.testing import Gate, HttpRequest, IntegrationContract, Send

FRAMEWORKS = {
    "starlette": "starlette.test_starlette_contract:TestStarlette",
    "fastapi": "test_fastapi_contract:TestFastAPI",
    "litestar": "litestar.test_litestar_contract:TestLitestar",
    "aiohttp": "aiohttp.test_aiohttp_contract:TestAioHttp",
    "quart": "quart.test_quart_contract:TestQuart",
    "flask": "flask.test_flask_contract:TestFlask",
    "django": "django_project.test_django_contract:TestDjangoByWSGI",
    "async_django": "django_project.test_django_contract:TestDjangoByASGI",
}
LONGEST_WORK = 0.05  # seconds


class Work(Gate):
    """Takes a while, as handlers do between the read of a session and its change."""

    async def wait(self) -> None:
        await asyncio.sleep(random.random() * LONGEST_WORK)

    def block(self) -> None:
        time.sleep(random.random() * LONGEST_WORK)


def served(send: Send) -> Callable[..., Awaitable[None]]:
    """An ASGI application that hands requests on."""

    async def app(scope: Any, _receive: Any, respond: Any) -> None:
        headers = {name.decode().title(): value.decode() for name, value in scope["headers"]}
        request = HttpRequest(
            scope["method"],
            scope["path"],
            scope["query_string"].decode(),
            {name: value for name, value in headers.items() if name in ("Host", "Cookie", "Hold")},
        )
        response = await send(request)
        raw = [(name.lower().encode(), value.strip().encode()) for name, value in response.headers]
        await respond({"type": "http.response.start", "status": response.status, "headers": raw})
        await respond({"type": "http.response.body", "body": response.body})

    return app


async def serve(framework: str, url: str) -> None:
    """Serve until the standard input ends."""
    logging.getLogger("sqlsessions").setLevel(logging.ERROR)  # dropped changes are part of it
    module, _, name = FRAMEWORKS[framework].partition(":")
    contract: IntegrationContract = getattr(import_module(f"tests.integrations.{module}"), name)()
    workers = 1 if "django" in framework else 2  # Django has one set of settings
    storages = [SqlSessionStorage(url) for _ in range(workers)]
    sockets = [socket.create_server(("127.0.0.1", 0), backlog=2048) for _ in storages]
    async with AsyncExitStack() as stack:
        servers = [
            uvicorn.Server(
                uvicorn.Config(
                    served(
                        await stack.enter_async_context(
                            contract.client(storage, Work(), cookie_name="session")
                        )
                    ),
                    log_level="error",
                    access_log=False,
                    lifespan="off",
                    timeout_keep_alive=600,
                )
            )
            for storage in storages
        ]
        sys.stdout.write(" ".join(str(each.getsockname()[1]) for each in sockets) + "\n")
        sys.stdout.flush()
        tasks = [
            asyncio.create_task(server._serve([own]))  # `serve` would take over the signals
            for server, own in zip(servers, sockets, strict=True)
        ]
        await asyncio.to_thread(sys.stdin.read)
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)
    for storage in storages:
        await storage.aclose()


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # those of frameworks about each other
    asyncio.run(serve(*sys.argv[1:]))
