"""Sessions of other libraries, written by them, and used with their cookies by a service on Starlette."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp_session
import psycopg
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiohttp_session.redis_storage import RedisStorage
from httpx import ASGITransport, AsyncClient
from litestar import Litestar, Request, get
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.stores.redis import RedisStore
from redis.asyncio import Redis
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request as StarletteRequest
from starlette.responses import JSONResponse
from starlette.routing import Route

from sqlsessions import MigratingStorage, SessionStorageMemory, SqlSessionStorage
from sqlsessions.errors import InvalidArgument
from sqlsessions.integrations.starlette import SessionMiddleware
from sqlsessions.moving import (
    AiohttpSessionRedis,
    ConnectPgTable,
    FlaskSessionRedis,
    FlaskSessionTable,
    LitestarRedis,
    Source,
    copy_sessions,
)
from sqlsessions.moving.signatures import ExpressSigning

from ..databases import available
from .support import REDIS, ROOT

LIFETIME = 1000  # seconds
SECRET_KEYS = ["a newer one", "of the tests"]
PREFIX = f"test{os.getpid()}."
GOLDEN = json.loads((Path(__file__).parent / "golden" / "connect_pg_simple.json").read_text())


async def show(request: StarletteRequest) -> JSONResponse:
    return JSONResponse({key: value for key, value in request.session.items() if not key.startswith("_")})


async def shown(storage: Any, cookie: str) -> Any:
    """The data that a request with the cookie has."""
    app = Starlette(routes=[Route("/", show)], middleware=[Middleware(SessionMiddleware, storage=storage)])
    transport = ASGITransport(app)
    async with AsyncClient(
        transport=transport, base_url="http://a.test", cookies={"session": cookie}
    ) as client:
        return (await client.get("/")).json()


async def goes_on(source: Source, cookie: str, data: dict[str, Any], lifetime: float = LIFETIME) -> None:
    """A copy and a move both lead from the cookie to the data, and keep the expiry; a logout reaches both places."""
    async with SqlSessionStorage("sqlite://") as storage:
        done = await copy_sessions(source, storage)
        assert (done.sessions, done.refused.total()) == (2, 0)
        info = await storage.info(cookie)
        assert info is not None
        assert info.expires_at is not None
        assert info.expires_at.timestamp() == pytest.approx(time.time() + lifetime, abs=60)
        assert info.subject == data["user"]
        assert await shown(storage, cookie) == data
        assert await shown(storage, f"{cookie[:-1]}{'B' if cookie[-1] == 'A' else 'A'}") == {}
    migrating = MigratingStorage(SessionStorageMemory(), source)
    assert await shown(migrating, cookie) == data
    assert await source.load(cookie) is None
    assert await migrating.revoke("bob") == 1
    assert [found async for found in source.sessions()] == []


async def test_litestar(redis: Redis) -> None:
    @get("/")
    async def begin(request: Request[Any, Any, Any]) -> None:
        request.session.update(user=request.query_params["user"], name="ä")

    app: Any = Litestar(
        [begin],
        middleware=[ServerSideSessionConfig(max_age=LIFETIME).middleware],
        stores={"sessions": RedisStore(redis, namespace=f"{PREFIX}litestar", handle_client_shutdown=False)},
    )
    cookies = []
    for user in ("ann", "bob"):
        async with AsyncClient(transport=ASGITransport(app), base_url="http://a.test") as client:
            await client.get("/", params={"user": user})
            cookies.append(str(client.cookies["session"]))
    source = LitestarRedis(redis, prefix=f"{PREFIX}litestar:", subject="user")
    await goes_on(source, cookies[0], {"user": "ann", "name": "ä"})


@pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")  # of aiohttp-session
async def test_aiohttp_session(redis: Redis) -> None:
    async def begin(request: web.Request) -> web.Response:
        session = await aiohttp_session.get_session(request)
        session.update(user=request.query["user"], name="ä")
        return web.Response()

    app = web.Application()
    aiohttp_session.setup(app, RedisStorage(redis, cookie_name=f"{PREFIX}aiohttp", max_age=LIFETIME))
    app.router.add_get("/", begin)
    cookies = []
    async with TestClient(TestServer(app)) as client:
        for user in ("ann", "bob"):
            client.session.cookie_jar.clear()
            answer = await client.get("/", params={"user": user})
            cookies.append(answer.cookies[f"{PREFIX}aiohttp"].value)
    source = AiohttpSessionRedis(redis, prefix=f"{PREFIX}aiohttp_", subject="user")
    await goes_on(source, cookies[0], {"user": "ann", "name": "ä"})


def flask_sessions(**settings: Any) -> dict[str, str]:
    pytest.importorskip("flask_session")
    command = [sys.executable, "-m", "tests.moving.flask_peer", json.dumps(settings)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
async def test_flask_session_on_redis(redis: Redis, signed: bool) -> None:
    prefix = f"{PREFIX}flask {signed}:"
    cookies = flask_sessions(
        SESSION_TYPE="redis", REDIS=REDIS, SESSION_KEY_PREFIX=prefix, SESSION_USE_SIGNER=signed
    )
    keys = SECRET_KEYS[1:] if signed else []
    source = FlaskSessionRedis(redis, secret_keys=keys, prefix=prefix, subject="user")
    if signed:
        after = FlaskSessionRedis(redis, secret_keys=SECRET_KEYS, prefix=prefix)
        assert await after.load(cookies["ann"]) is not None
        assert await after.load(cookies["ann"].partition(".")[0]) is None
    await goes_on(source, cookies["ann"], {"user": "ann", "name": "ä"})


async def test_flask_session_in_a_table() -> None:
    server = available("sqlite")
    url = server.create()
    cookies = flask_sessions(
        SESSION_TYPE="sqlalchemy", SQLALCHEMY_DATABASE_URI=str(url), SESSION_SERIALIZATION_FORMAT="json"
    )
    async with FlaskSessionTable(url, subject="user") as source:
        await goes_on(source, cookies["ann"], {"user": "ann", "name": "ä"})
    server.drop(url)


async def test_connect_pg_simple() -> None:
    """Whose sessions are kept in a file, which the program beside it made."""
    server = available("postgresql")
    url = server.create()
    with psycopg.connect(
        url.set(drivername="postgresql").render_as_string(hide_password=False)
    ) as connection:
        connection.execute(GOLDEN["schema"])
        for row in GOLDEN["rows"][:2]:
            connection.execute("INSERT INTO session VALUES (%s, %s, %s)", list(row.values()))
    expires_at = datetime.fromisoformat(GOLDEN["rows"][0]["expire"]).replace(tzinfo=UTC)
    cookies = GOLDEN["cookies"]
    async with ConnectPgTable(url, SECRET_KEYS[::-1], subject="user") as source:
        data = {"user": "ann", "name": "Ä \U0001f600"}
        await goes_on(source, cookies["ann"], data, expires_at.timestamp() - time.time())
    async with ConnectPgTable(url, SECRET_KEYS) as source:  # whose newer key signed none of them
        assert await source.load(cookies["ann"]) is None  # it was moved
    server.drop(url)


def test_signatures_of_express() -> None:
    made = {row["sid"]: ExpressSigning(SECRET_KEYS[1:]).sign(row["sid"]) for row in GOLDEN["rows"]}
    assert sorted(made.values()) == sorted(GOLDEN["cookies"].values())
    for sid, cookie in made.items():
        assert ExpressSigning(SECRET_KEYS).unsign(cookie) == sid
        assert ExpressSigning(["another"]).unsign(cookie) is None
        assert ExpressSigning(SECRET_KEYS).unsign(cookie.replace("s%3A", "")) is None


@pytest.mark.parametrize("keys", ["a string", [], [""]], ids=str)
def test_wrong_keys(keys: Any) -> None:
    with pytest.raises(InvalidArgument):
        ExpressSigning(keys)
