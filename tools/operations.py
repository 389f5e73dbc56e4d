"""The path of an operation: the files of the package that it passes, and how often it changes between them."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from .layers import PACKAGE

RUNS = 5
POSTGRESQL = os.environ.get("SQLSESSIONS_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:5432/postgres")


@dataclass
class Trail:
    """What an operation passed.

    Attributes:
        calls: The file of every function of the package that was called, in order. A coroutine that goes on
            after a wait is not called again.
    """

    calls: list[str] = field(default_factory=list)

    @property
    def files(self) -> int:
        """How many files."""
        return len(set(self.calls))

    @property
    def changes(self) -> int:
        """How often a call was in another file than the call before it."""
        return sum(before != after for before, after in zip(self.calls, self.calls[1:], strict=False))

    def steps(self) -> list[str]:
        """The files in order, each as often as the path comes to it."""
        return [file for i, file in enumerate(self.calls) if i == 0 or file != self.calls[i - 1]]


@contextmanager
def tracing(folder: Path) -> Iterator[Callable[[], Trail]]:
    """Note what is called in a folder, in every thread that starts meanwhile too.

    Gives a function that begins a new trail and returns it.
    """
    trail, prefix = Trail(), f"{folder}{os.sep}"
    seen: set[FrameType] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith(prefix) and frame not in seen:
            seen.add(frame)
            trail.calls.append(file.removeprefix(prefix))

    def begin() -> Trail:
        nonlocal trail
        seen.clear()
        trail = Trail()
        return trail

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield begin
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@asynccontextmanager
async def sqlite() -> AsyncIterator[str]:
    """A SQLite database with our tables, while this lasts."""
    with tempfile.TemporaryDirectory() as folder:
        yield await _with_tables(f"sqlite+aiosqlite:///{folder}/sessions.db")


@asynccontextmanager
async def postgresql() -> AsyncIterator[str]:
    """A PostgreSQL database with our tables, while this lasts."""
    server = make_url(POSTGRESQL).set(drivername="postgresql+asyncpg")
    url = server.set(database=f"sqlsessions_tools_{secrets.token_hex(6)}")
    await _execute(server.render_as_string(hide_password=False), f"CREATE DATABASE {url.database}")
    try:
        yield await _with_tables(url.render_as_string(hide_password=False))
    finally:
        await _execute(
            server.render_as_string(hide_password=False), f"DROP DATABASE {url.database} WITH (FORCE)"
        )


async def _with_tables(url: str) -> str:
    from sqlsessions import metadata

    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    await engine.dispose()
    return url


async def _execute(url: str, statement: str) -> None:
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


async def small_write(url: str, begin: Callable[[], Trail]) -> Trail:
    """One ``write_bytes`` of 200 bytes under a new id, over a connection that is open already."""
    from sqlsessions import SqlSessionStorage, new_session_id

    async with SqlSessionStorage(url) as storage:
        for _ in range(3):
            id = new_session_id()
            trail = begin()
            await storage.write_bytes(id, bytes(200))
            begin()
    return trail


async def request(url: str, begin: Callable[[], Trail]) -> Trail:
    """One HTTP request to a Starlette application, which reads and changes the session that it has."""
    from sqlsessions import SqlSessionStorage
    from sqlsessions.integrations.starlette import SessionMiddleware

    async def visit(request: Request) -> JSONResponse:
        request.session["visits"] = request.session.get("visits", 0) + 1
        return JSONResponse(request.session["visits"])

    async with SqlSessionStorage(url) as storage:
        app = Starlette(
            routes=[Route("/", visit)], middleware=[Middleware(SessionMiddleware, storage, https_only=False)]
        )
        cookie = b""
        for number in range(1, 4):
            trail = begin()
            answer = await _get(app, cookie)
            begin()
            if answer["body"] != b"%d" % number:
                raise RuntimeError(f"visit {number} was answered {answer['body']!r}")
            cookie = answer["cookie"] or cookie
    return trail


async def _get(app: Callable[..., Awaitable[None]], cookie: bytes) -> dict[str, bytes]:
    answer = {"body": b"", "cookie": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        answer["body"] += message.get("body", b"")
        answer["cookie"] += dict(message.get("headers", ())).get(b"set-cookie", b"").partition(b";")[0]

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *([(b"cookie", cookie)] if cookie else [])],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return answer


OPERATIONS = {
    "a small write on SQLite": (sqlite, small_write),
    "a small write on PostgreSQL": (postgresql, small_write),
    "a request on SQLite": (sqlite, request),
}


def trails(root: Path) -> dict[str, Trail | str]:
    """The path of each operation in the package below a root, or why there is none.

    Of several runs the one with the fewest changes, since threads of a driver may run ahead or fall behind.
    """

    async def run(name: str, begin: Callable[[], Trail]) -> Trail:
        database, operation = OPERATIONS[name]
        async with database() as url:
            return await operation(url, begin)

    found: dict[str, Trail | str] = {}
    for name in OPERATIONS:
        with tracing(root / PACKAGE) as begin:
            try:
                taken = [asyncio.run(run(name, begin)) for _ in range(RUNS)]
                found[name] = min(taken, key=lambda trail: (trail.changes, trail.steps()))
            except OSError as error:
                found[name] = f"no server: {type(error).__name__}"
    return found
