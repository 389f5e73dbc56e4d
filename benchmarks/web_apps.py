"""The same Starlette app with one kind of session or another, for uvicorn: SIDE and URL say which.

``/login`` begins a session, ``/`` reads it, and ``/write`` changes it; ``/cpu`` tells the CPU seconds of the process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

AGE = 14 * 24 * 60 * 60


def create_app() -> Any:
    """The app that the environment asks for."""
    return app_of(os.environ["SIDE"], os.environ["URL"])


def app_of(side: str, url: str) -> Any:
    """The app of a side, with sessions at a URL."""
    if side.startswith("django"):
        from . import web_django

        return web_django.create_app(url, ours=side == "django-ours")
    routes = [
        Route("/", _nothing if side == "none" else _read),
        Route("/write", _nothing if side == "none" else _write),
        Route("/login", _nothing if side == "none" else _login),
        Route("/cpu", _cpu),
    ]
    if side == "fastapi-redis-sdk":
        return _fastapi_redis_sdk(url, routes)
    return Starlette(routes=routes, middleware=[] if side == "none" else SIDES[side](url))


async def _nothing(_request: Request) -> Response:
    return PlainTextResponse("ann")


async def _read(request: Request) -> Response:
    return PlainTextResponse(request.session["user"])


async def _write(request: Request) -> Response:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return PlainTextResponse(request.session["user"])


async def _cpu(_request: Request) -> Response:
    return PlainTextResponse(str(time.process_time()))


async def _login(request: Request) -> Response:
    request.session.update({"user": "ann", "items": ["x" * 20 for _ in range(10)]})
    return PlainTextResponse("in")


def _ours(url: str, *, eager: bool | None = None) -> list[Any]:
    from sqlsessions import SqlSessionStorage
    from sqlsessions.integrations.starlette import SessionMiddleware

    return [Middleware(SessionMiddleware, storage=SqlSessionStorage(url), eager=eager)]


def _cached(url: str) -> list[Any]:
    from sqlsessions import CacheStorage, SqlSessionStorage
    from sqlsessions.integrations.starlette import SessionMiddleware

    return [Middleware(SessionMiddleware, storage=CacheStorage(SqlSessionStorage(url)))]


def _cookie(_url: str) -> list[Any]:
    from starlette.middleware.sessions import SessionMiddleware

    return [Middleware(SessionMiddleware, secret_key="a secret of some length")]


def _starsessions(url: str) -> list[Any]:
    from redis.asyncio import Redis
    from starsessions import SessionAutoloadMiddleware, SessionMiddleware
    from starsessions.stores.redis import RedisStore

    store = RedisStore(connection=Redis.from_url(url), prefix="sqlsessions-benchmark.")
    session = Middleware(SessionMiddleware, store=store, lifetime=AGE, cookie_https_only=False)
    return [session, Middleware(SessionAutoloadMiddleware)]


def _fastapi_redis_sdk(url: str, routes: Sequence[Route]) -> Any:
    from fastapi import FastAPI
    from redis_fastapi import FastAPIRedis, get_settings

    get_settings().url = url
    get_settings().session_cookie_https_only = False
    app = FastAPI(routes=[*routes])
    FastAPIRedis(app).lifespan().sessions()
    return app


SIDES: dict[str, Callable[[str], list[Any]]] = {
    "ours": _ours,
    "eager": partial(_ours, eager=True),
    "cached": _cached,
    "cookie": _cookie,
    "starsessions": _starsessions,
}
