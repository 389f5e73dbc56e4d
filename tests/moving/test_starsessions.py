"""starsessions' own sessions in Redis, written by starsessions, and used with their cookies."""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
import starsessions
from httpx import ASGITransport, AsyncClient
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starsessions.stores.redis import RedisStore

from sqlsessions import MigratingStorage, SessionStorageMemory, SqlSessionStorage, StorageUnavailable, schema
from sqlsessions.errors import InvalidArgumentType
from sqlsessions.integrations.starlette import SessionMiddleware
from sqlsessions.integrations.starsessions import SessionMiddleware as StarsessionsMiddleware
from sqlsessions.integrations.starsessions import StarsessionsStore
from sqlsessions.moving import StarsessionsRedis

from ..commands.support import run as command
from .support import REDIS

PREFIX = f"test{os.getpid()}.[x]*."  # with characters that mean something to Redis
LIFETIME = 1000  # seconds


async def show(request: Request) -> JSONResponse:
    data = {key: value for key, value in request.session.items() if key != "__metadata__"}
    return JSONResponse(data)


async def put(request: Request) -> JSONResponse:
    request.session.update(request.query_params)
    return JSONResponse({})


async def logout(request: Request) -> JSONResponse:
    request.session.clear()
    return JSONResponse({})


ROUTES = [Route(f"/{each.__name__}", each) for each in (show, put, logout)]


def peer(store: starsessions.SessionStore, middleware: Any = starsessions.SessionMiddleware) -> Starlette:
    return Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(middleware, store=store, lifetime=LIFETIME),
            Middleware(starsessions.SessionAutoloadMiddleware),
        ],
    )


def client_of(app: Starlette, id: str | None = None) -> AsyncClient:
    cookies = None if id is None else {"session": id}
    return AsyncClient(transport=ASGITransport(app), base_url="https://service.test", cookies=cookies)


@pytest.fixture
async def id(redis: Redis) -> str:
    """The id of a session of ann's that starsessions wrote, beside others' keys."""
    async with client_of(peer(RedisStore(connection=redis, prefix=PREFIX))) as client:
        await client.get("/put", params={"user": "ann", "page": "ä"})
        found = client.cookies["session"]
    commands: Any = redis
    await commands.set(f"{PREFIX}{'p' * 32}", pickle.dumps({"user": "eve"}))
    await commands.set(f"{PREFIX}short", b"{}")
    await commands.hset(f"{PREFIX}{'h' * 32}", "no", "string")
    await commands.set(f"test{os.getpid()}.xyz.{'a' * 32}", b"{}")  # which the pattern of a prefix would find
    return found


@pytest.mark.parametrize("kind", ["starsessions", "starlette"])
async def test_cookies_go_on(redis: Redis, id: str, kind: str) -> None:
    source = StarsessionsRedis(redis, prefix=PREFIX, subject="user")
    async with MigratingStorage(SessionStorageMemory(), source) as storage:
        if kind == "starsessions":
            app = peer(StarsessionsStore(storage), StarsessionsMiddleware)
        else:
            app = Starlette(routes=ROUTES, middleware=[Middleware(SessionMiddleware, storage=storage)])
        async with client_of(app, id) as client:
            assert (await client.get("/show")).json() == {"user": "ann", "page": "ä"}
            await client.get("/put", params={"page": "b"})
            assert (await client.get("/show")).json() == {"user": "ann", "page": "b"}
            [info] = [info async for info in storage.sessions("ann")]
            assert info.expires_at is not None
            assert info.expires_at.timestamp() == pytest.approx(time.time() + LIFETIME, abs=30)
            await client.get("/logout")
        async with client_of(app, id) as client:
            assert (await client.get("/show")).json() == {}
    async with client_of(peer(RedisStore(connection=redis, prefix=PREFIX)), id) as client:
        assert (await client.get("/show")).json() == {}


async def test_a_parallel_first_page(redis: Redis, id: str) -> None:
    """Thirty requests with a cookie that was not moved, through two processes' worth of storages."""
    new = SessionStorageMemory()
    storages = [MigratingStorage(new, StarsessionsRedis(redis, prefix=PREFIX)) for _ in range(2)]
    found = await asyncio.gather(*(storages[number % 2].load(id) for number in range(30)))
    assert len({snapshot and snapshot.info.version for snapshot in found}) == 1
    assert found[0] is not None


async def test_an_import(redis: Redis, id: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    await schema.upgrade(url)
    options = ["--source", REDIS, "--prefix", PREFIX, "--subject", "user"]
    result = await asyncio.to_thread(command, "import", "--from", "starsessions", "--url", url, *options)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[1:] == [
        "1 cannot be imported: its data cannot be read by this serializer",
        "1 cannot be imported: its id is not of 32 to 256 letters, digits and -_.~%: the integrations refuse it",
    ]
    async with SqlSessionStorage(url) as storage:
        app = Starlette(routes=ROUTES, middleware=[Middleware(SessionMiddleware, storage=storage)])
        async with client_of(app, id) as client:
            assert (await client.get("/show")).json() == {"user": "ann", "page": "ä"}
        assert len([info async for info in storage.sessions("ann")]) == 1


async def test_another_serializer(redis: Redis, id: str) -> None:
    source = StarsessionsRedis(redis, prefix=PREFIX, loads=pickle.loads, subject=lambda data: data["user"])
    found = await source.load("p" * 32)
    assert found is not None
    assert (pickle.loads(found.data), found.subject) == ({"user": "eve"}, "eve")  # noqa: S301


async def test_a_redis_that_is_away() -> None:
    client: Any = Redis.from_url("redis://127.0.0.1:1")
    storage = MigratingStorage(SessionStorageMemory(), StarsessionsRedis(client))
    with pytest.raises(StorageUnavailable):
        await storage.load("a" * 32)
    await client.aclose()


def test_a_client_that_blocks_is_refused() -> None:
    import redis

    with pytest.raises(InvalidArgumentType, match=r"redis\.asyncio\.Redis"):
        StarsessionsRedis(redis.Redis())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "starsessions"], "--from needs --source"),
        ([], "give a file, or --from"),
        (["a file", "--dry-run"], "--dry-run is for an import with --from"),
        (["a file", "--from", "django", "--source", "sqlite:///a"], "--from reads no file"),
        (["--from", "django", "--source", "sqlite:///a"], "django needs --source-key"),
        (
            ["--from", "starsessions", "--source", "redis://h", "--table", "a"],
            "starsessions does not take --table",
        ),
        (["--from", "starsessions", "--source", "sqlite:///a"], "--source must be a URL such as redis"),
    ],
    ids=str,
)
def test_wrong_usage(arguments: list[str], message: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    asyncio.run(schema.upgrade(url))
    result = command("import", *arguments, "--url", url)
    assert result.exit_code == 2
    assert f"sqlsessions: {message}" in result.stderr
