"""Imports of many sessions from each library: ``python -m benchmarks.moving``.

The library itself encodes and writes the sessions, but connect-pg-simple, which is for Node: its rows are copies, under new
ids, of one that it wrote. All are copied to a new PostgreSQL database, after a dry run; then some of them, spread over
all, are asked for by their old cookies, through the Starlette integration.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from redis.asyncio import Redis
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import SqlSessionStorage
from sqlsessions.moving import (
    AiohttpSessionRedis,
    ConnectPgTable,
    DjangoTable,
    FlaskSessionRedis,
    FlaskSessionTable,
    LitestarRedis,
    Source,
    StarsessionsRedis,
    copy_sessions,
)
from sqlsessions.moving.signatures import ExpressSigning

from .scratch import address, database

SECRET_KEY = "of the benchmark"
ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "moving" / "golden" / "connect_pg_simple.json"
PREFIX = f"bench{secrets.token_hex(4)}."
DAY = 24 * 60 * 60
AT_ONCE = 64


class Written(NamedTuple):
    """Sessions of a library: where they are, and their cookies."""

    source: Source
    cookies: list[str]


def data_of(number: int) -> dict[str, Any]:
    """The data of a session: about 200 bytes of JSON."""
    return {"user_id": f"user-{number}", "name": "Ä" * 8, "cart": [{"item": number, "count": 2}] * 4}


@asynccontextmanager
async def on_redis(prefix: str) -> AsyncIterator[Any]:
    """A client, whose keys with a prefix are deleted in the end."""
    client: Any = Redis.from_url(address("redis"))
    try:
        yield client
    finally:
        keys = [key async for key in client.scan_iter(match=f"{prefix}*", count=10_000)]
        for at in range(0, len(keys), 10_000):
            await client.delete(*keys[at : at + 10_000])
        await client.aclose()


async def many(count: int, write: Callable[[int], Any]) -> None:
    """Call a function with each number, some at once."""
    numbers = iter(range(count))

    async def work() -> None:
        for number in numbers:
            await write(number)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))


@asynccontextmanager
async def starsessions(count: int) -> AsyncIterator[Written]:
    """Those of starsessions' RedisStore."""
    from starsessions import JsonSerializer
    from starsessions.session import generate_session_id
    from starsessions.stores.redis import RedisStore

    prefix = f"{PREFIX}starsessions."
    async with on_redis(prefix) as client:
        store, cookies = RedisStore(connection=client, prefix=prefix), [""] * count

        async def write(number: int) -> None:
            cookies[number] = generate_session_id()
            await store.write(
                cookies[number], JsonSerializer().serialize(data_of(number)), lifetime=DAY, ttl=DAY
            )

        await many(count, write)
        yield Written(StarsessionsRedis(client, prefix=prefix, subject="user_id"), cookies)


@asynccontextmanager
async def litestar(count: int) -> AsyncIterator[Written]:
    """Those of Litestar's server-side sessions in its RedisStore."""
    from litestar.middleware.session.server_side import ServerSideSessionBackend, ServerSideSessionConfig
    from litestar.stores.redis import RedisStore

    namespace = f"{PREFIX}litestar"
    async with on_redis(namespace) as client:
        store = RedisStore(client, namespace=namespace, handle_client_shutdown=False)
        backend = ServerSideSessionBackend(ServerSideSessionConfig(max_age=DAY))
        cookies = [backend.generate_session_id() for _ in range(count)]

        async def write(number: int) -> None:
            await backend.set(cookies[number], backend.serialize_data(data_of(number)), store=store)

        await many(count, write)
        yield Written(LitestarRedis(client, prefix=f"{namespace}:", subject="user_id"), cookies)


@asynccontextmanager
async def aiohttp_session(count: int) -> AsyncIterator[Written]:
    """Those of aiohttp-session's RedisStorage."""
    from aiohttp import web
    from aiohttp.test_utils import make_mocked_request
    from aiohttp_session import Session
    from aiohttp_session.redis_storage import RedisStorage

    name = f"{PREFIX}aiohttp"
    async with on_redis(name) as client:
        storage, cookies = RedisStorage(client, cookie_name=name, max_age=DAY), [""] * count
        request = make_mocked_request("GET", "/")

        async def write(number: int) -> None:
            session = Session(None, data=None, new=True, max_age=DAY)
            session.update(data_of(number))
            response = web.Response()
            await storage.save_session(request, response, session)
            cookies[number] = response.cookies[name].value

        await many(count, write)
        yield Written(AiohttpSessionRedis(client, prefix=f"{name}_", subject="user_id"), cookies)


def by_program(library: str, count: int, **settings: Any) -> list[str]:
    """Have a program of its own write sessions, which blocks; their cookies."""
    command = [sys.executable, "-m", "benchmarks.moving_peers", library, str(count), json.dumps(settings)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    cookies: list[str] = json.loads(done.stdout)
    return cookies


@asynccontextmanager
async def flask_session_redis(count: int) -> AsyncIterator[Written]:
    """Those of Flask-Session on Redis."""
    prefix = f"{PREFIX}flask:"
    async with on_redis(prefix) as client:
        settings = {"SESSION_TYPE": "redis", "REDIS": address("redis"), "SESSION_KEY_PREFIX": prefix}
        cookies = await asyncio.to_thread(by_program, "flask", count, **settings)
        yield Written(FlaskSessionRedis(client, prefix=prefix, subject="user_id"), cookies)


@asynccontextmanager
async def flask_session_sqlalchemy(count: int) -> AsyncIterator[Written]:
    """Those of Flask-Session in a table of PostgreSQL."""
    async with database("postgresql") as url:
        # Its table has the name of ours.
        settings = {
            "SESSION_TYPE": "sqlalchemy",
            "SQLALCHEMY_DATABASE_URI": blocking(url),
            "SESSION_SQLALCHEMY_TABLE": "flask_sessions",
        }
        cookies = await asyncio.to_thread(by_program, "flask", count, **settings)
        async with FlaskSessionTable(url, table="flask_sessions", subject="user_id") as source:
            yield Written(source, cookies)


@asynccontextmanager
async def django(count: int) -> AsyncIterator[Written]:
    """Those of Django's db backend, on PostgreSQL."""
    async with database("postgresql") as url:
        cookies = await asyncio.to_thread(by_program, "django", count, url=url, key=SECRET_KEY)
        async with DjangoTable(url, [SECRET_KEY], subject="user_id") as source:
            yield Written(source, cookies)


@asynccontextmanager
async def connect_pg_simple(count: int) -> AsyncIterator[Written]:
    """Copies of a session of connect-pg-simple, with other ids and data."""
    golden = json.loads(GOLDEN.read_text())
    cookie = json.loads(golden["rows"][0]["sess"])["cookie"]
    expire = datetime.fromisoformat(golden["rows"][0]["expire"]).replace(tzinfo=UTC).replace(tzinfo=None)
    async with database("postgresql") as url:
        ids = [secrets.token_urlsafe(24) for _ in range(count)]
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            for statement in filter(str.strip, golden["schema"].split(";")):
                await connection.execute(text(statement))
            insert = text("INSERT INTO session VALUES (:sid, cast(:sess AS json), :expire)")
            for at in range(0, count, 5000):
                rows = [
                    {
                        "sid": ids[number],
                        "sess": json.dumps({"cookie": cookie} | data_of(number)),
                        "expire": expire,
                    }
                    for number in range(at, min(at + 5000, count))
                ]
                await connection.execute(insert, rows)
        await engine.dispose()
        signing = ExpressSigning([SECRET_KEY])
        async with ConnectPgTable(url, [SECRET_KEY], subject="user_id") as source:
            yield Written(source, [signing.sign(sid) for sid in ids])


def blocking(url: str) -> str:
    """The URL for a driver that blocks."""
    return make_url(url).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


LIBRARIES: dict[str, Callable[[int], AbstractAsyncContextManager[Written]]] = {
    "Django, its table": django,
    "starsessions, Redis": starsessions,
    "Litestar, Redis": litestar,
    "aiohttp-session, Redis": aiohttp_session,
    "Flask-Session, Redis": flask_session_redis,
    "Flask-Session, SQLAlchemy": flask_session_sqlalchemy,
    "connect-pg-simple": connect_pg_simple,
}


async def live(storage: Any, cookies: list[str], step: int) -> tuple[int, int]:
    """How many of some sessions a request with the old cookie finds, with all of their data; and of how many."""
    from httpx import ASGITransport, AsyncClient
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    from sqlsessions.integrations.starlette import SessionMiddleware

    async def show(request: Request) -> JSONResponse:
        return JSONResponse(request.session)

    middleware = Middleware(SessionMiddleware, storage=storage)
    app = Starlette(routes=[Route("/", show)], middleware=[middleware])
    sampled = range(0, len(cookies), step)
    found = 0
    for number in sampled:
        async with AsyncClient(
            transport=ASGITransport(app), base_url="http://a.test", cookies={"session": cookies[number]}
        ) as client:
            answer = (await client.get("/")).json()
            found += data_of(number).items() <= answer.items()
    return found, len(sampled)


async def measure(name: str, count: int) -> None:
    """Write, count, copy and try the sessions of a library, and print a row."""
    async with LIBRARIES[name](count) as written, database("postgresql") as target:
        source, cookies = written
        async with SqlSessionStorage(target) as storage:
            dry = await copy_sessions(source, storage, dry_run=True)
            begun = time.perf_counter()
            done = await copy_sessions(source, storage)
            seconds = time.perf_counter() - begun
            again = await copy_sessions(source, storage)
            found, sampled = await live(storage, cookies, max(1, count // 1000))
    row = [name, f"{count:,}", f"{dry.sessions:,}", f"{done.sessions:,}", str(done.refused.total())]
    row += [
        f"{seconds:.1f}",
        f"{done.sessions / seconds:,.0f}",
        f"{again.present:,}",
        f"{found:,} of {sampled:,}",
    ]
    print("|", " | ".join(row), "|", flush=True)


async def main() -> None:
    """Measure each library that is named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("libraries", nargs="*", choices=[[], *LIBRARIES])
    parser.add_argument("--count", type=int, default=100_000)
    given = parser.parse_args()
    print(
        "| From | Written | Dry run | Imported | Refused | Seconds | Per second | Present, again | Live, sampled |"
    )
    print("|---" * 9 + "|")
    for name in given.libraries or LIBRARIES:
        await measure(name, given.count)


if __name__ == "__main__":
    asyncio.run(main())
