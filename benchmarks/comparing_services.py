"""A small service over each of the session libraries that are compared, in the way of its documentation.

What stands between the marks is the middleware, a login and a logout, whose lines are counted.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from httpx import ASGITransport
from litestar import Request as LitestarRequest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse

from .comparing_app import PREFIX, Gate, InThreads, flask_app, litestar_handlers, routes
from .own_servers import redis_server
from .scratch import address

DJANGO = tempfile.TemporaryDirectory()


@asynccontextmanager
async def on_sqlite() -> AsyncIterator[str]:
    """The path of a new database."""
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "sessions.db")


@asynccontextmanager
async def sqlsessions(gate: Gate) -> AsyncIterator[Any]:
    """sqlsessions, in Starlette, on SQLite."""
    from sqlsessions import SqlSessionStorage, schema
    from sqlsessions.integrations.starlette import SessionMiddleware, current_session

    async with on_sqlite() as path:
        # setup
        url = f"sqlite:///{path}"
        await schema.upgrade(url)
        storage = SqlSessionStorage(url)
        middleware = [Middleware(SessionMiddleware, storage=storage)]

        async def login(request: Request) -> JSONResponse:
            current_session(request).subject = "ada"
            return JSONResponse(None)

        async def logout(request: Request) -> JSONResponse:
            current_session(request).invalidate()
            return JSONResponse(None)

        # end
        async with storage:
            yield Starlette(routes=routes(gate, login, logout), middleware=middleware)


@asynccontextmanager
async def cookies(gate: Gate) -> AsyncIterator[Any]:
    """Starlette's own middleware, whose sessions are in the cookie."""
    from starlette.middleware.sessions import SessionMiddleware

    # setup
    middleware = [Middleware(SessionMiddleware, secret_key="a secret")]

    async def login(request: Request) -> JSONResponse:
        request.session["user"] = "ada"
        return JSONResponse(None)

    async def logout(request: Request) -> JSONResponse:
        request.session.clear()
        return JSONResponse(None)

    # end
    yield Starlette(routes=routes(gate, login, logout), middleware=middleware)


@asynccontextmanager
async def starsessions(gate: Gate) -> AsyncIterator[Any]:
    """starsessions, on Redis."""
    from starsessions import SessionAutoloadMiddleware, SessionMiddleware
    from starsessions.session import regenerate_session_id
    from starsessions.stores.redis import RedisStore

    # setup
    store = RedisStore(address("redis"), prefix=f"{PREFIX}star.")
    middleware = [
        Middleware(SessionMiddleware, store=store, lifetime=1000),
        Middleware(SessionAutoloadMiddleware),
    ]

    async def login(request: Request) -> JSONResponse:
        regenerate_session_id(request)
        request.session["user"] = "ada"
        return JSONResponse(None)

    async def logout(request: Request) -> JSONResponse:
        request.session.clear()
        return JSONResponse(None)

    # end
    yield Starlette(routes=routes(gate, login, logout), middleware=middleware)


@asynccontextmanager
async def fastapi_redis_sdk(gate: Gate) -> AsyncIterator[Any]:
    """fastapi-redis-sdk, in FastAPI, on a Redis of its own."""
    from fastapi import FastAPI
    from redis_fastapi import FastAPIRedis, get_settings

    async with redis_server(durable=False, oldest=(7, 4)) as url:
        # setup
        app = FastAPI()
        get_settings().url = url
        FastAPIRedis(app).lifespan().sessions()

        async def login(request: Request) -> JSONResponse:
            request.session["user_id"] = "ada"
            return JSONResponse(None)

        async def logout(request: Request) -> JSONResponse:
            request.session.clear()
            return JSONResponse(None)

        # end
        app.router.routes.extend(routes(gate, login, logout))
        async with app.router.lifespan_context(app):
            yield app


@asynccontextmanager
async def litestar(gate: Gate) -> AsyncIterator[Any]:
    """Litestar's own server-side sessions, on Redis."""
    from litestar import Litestar, get
    from litestar.middleware.session.server_side import ServerSideSessionConfig
    from litestar.stores.redis import RedisStore

    # setup
    store = RedisStore.with_client(address("redis"), namespace=f"{PREFIX}litestar")
    middleware = [ServerSideSessionConfig().middleware]

    @get("/login")
    async def login(request: LitestarRequest[Any, Any, Any]) -> None:
        request.session["user"] = "ada"

    @get("/logout")
    async def logout(request: LitestarRequest[Any, Any, Any]) -> None:
        request.clear_session()

    # end
    handlers = [*litestar_handlers(gate), login, logout]
    app = Litestar(handlers, middleware=middleware, stores={"sessions": store}, logging_config=None)
    async with app.lifespan():
        yield app


@asynccontextmanager
async def sqlsessions_litestar(gate: Gate) -> AsyncIterator[Any]:
    """sqlsessions, in Litestar, on SQLite."""
    from litestar import Litestar, get

    from sqlsessions import SqlSessionStorage, schema
    from sqlsessions.integrations.litestar import SessionConfig, current_session

    async with on_sqlite() as path:
        # setup
        url = f"sqlite:///{path}"
        await schema.upgrade(url)
        storage = SqlSessionStorage(url)
        middleware = [SessionConfig(storage).middleware]

        @get("/login")
        async def login(request: LitestarRequest[Any, Any, Any]) -> None:
            current_session(request).subject = "ada"

        @get("/logout")
        async def logout(request: LitestarRequest[Any, Any, Any]) -> None:
            current_session(request).invalidate()

        # end
        handlers = [*litestar_handlers(gate), login, logout]
        app = Litestar(handlers, middleware=middleware, logging_config=None)
        async with storage, app.lifespan():
            yield app


@asynccontextmanager
async def flask_session(gate: Gate) -> AsyncIterator[Any]:
    """Flask-Session, on Redis."""
    from flask import session
    from flask_session import Session
    from redis import Redis as BlockingRedis

    app = flask_app(gate)
    # setup
    app.config["SESSION_TYPE"] = "redis"
    app.config["SESSION_REDIS"] = BlockingRedis.from_url(address("redis"))
    app.config["SESSION_KEY_PREFIX"] = f"{PREFIX}flask."
    Session(app)

    @app.get("/login")
    def login() -> str:
        app.session_interface.regenerate(session)  # type: ignore[attr-defined]
        session["user"] = "ada"
        return "null"

    @app.get("/logout")
    def logout() -> str:
        session.clear()
        return "null"

    # end
    yield InThreads(app)
    app.config["SESSION_REDIS"].close()


@asynccontextmanager
async def sqlsessions_flask(gate: Gate) -> AsyncIterator[Any]:
    """sqlsessions, in Flask, on SQLite."""
    from sqlsessions import SqlSessionStorage, schema
    from sqlsessions.integrations.flask import SqlSessionInterface, current_session

    app = flask_app(gate)
    async with on_sqlite() as path:
        # setup
        url = f"sqlite:///{path}"
        await schema.upgrade(url)
        storage = SqlSessionStorage(url)
        SqlSessionInterface(storage).init_app(app)

        @app.get("/login")
        def login() -> str:
            current_session().subject = "ada"
            return "null"

        @app.get("/logout")
        def logout() -> str:
            current_session().invalidate()
            return "null"

        # end
        async with storage:
            yield InThreads(app)


@asynccontextmanager
async def django(gate: Gate) -> AsyncIterator[Any]:
    """Django's own sessions in its database, on SQLite, by asynchronous views."""
    from asgiref.sync import sync_to_async
    from django.conf import settings
    from django.core.handlers.asgi import ASGIHandler
    from django.core.management import call_command
    from django.http import JsonResponse
    from django.urls import path

    async def change(request: Any) -> JsonResponse:
        await request.session.aset(request.GET["key"], 1)
        return JsonResponse({})

    async def slow(request: Any) -> JsonResponse:
        await request.session.aget("first")
        await gate.wait()
        await request.session.aset("late", 1)
        return JsonResponse({})

    async def nest(request: Any) -> JsonResponse:
        (await request.session.asetdefault("nested", {"number": 0}))["number"] += 1
        return JsonResponse({})

    async def show(request: Any) -> JsonResponse:
        return JsonResponse(dict(await request.session.aitems()))

    def routes() -> list[Any]:
        return [path(each.__name__, each) for each in (change, slow, nest, show, login, logout)]

    # setup
    apps = ["django.contrib.sessions"]
    middleware = ["django.contrib.sessions.middleware.SessionMiddleware"]

    async def login(request: Any) -> JsonResponse:
        await request.session.acycle_key()
        await request.session.aset("user", "ada")
        return JsonResponse({})

    async def logout(request: Any) -> JsonResponse:
        await request.session.aflush()
        return JsonResponse({})

    # end
    if not settings.configured:  # which can be done once in a process
        import django as library

        settings.configure(
            SECRET_KEY="a secret",
            ALLOWED_HOSTS=["*"],
            USE_TZ=True,
            INSTALLED_APPS=apps,
            MIDDLEWARE=middleware,
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{DJANGO.name}/db"}},
        )
        library.setup()
        await sync_to_async(call_command)("migrate", verbosity=0)
    settings.ROOT_URLCONF = type("Urls", (), {"urlpatterns": routes()})
    yield ASGITransport(ASGIHandler())
