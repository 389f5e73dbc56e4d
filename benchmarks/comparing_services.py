"""A small service over each of the session libraries that are compared, in the way of its documentation.

What stands between the marks is the middleware, a login and a logout, whose lines are counted.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from httpx import ASGITransport, AsyncBaseTransport, WSGITransport
from httpx import Request as HttpxRequest
from httpx import Response as HttpxResponse
from litestar import Request as LitestarRequest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from .scratch import address

if TYPE_CHECKING:
    from flask import Flask

DJANGO = tempfile.TemporaryDirectory()
PREFIX = f"bench{secrets.token_hex(4)}."


class Gate:
    """Where a slow request waits until others are done."""

    def __init__(self) -> None:
        self.entered, self.open = asyncio.Event(), asyncio.Event()

    async def wait(self) -> None:
        """Wait, within a request."""
        self.entered.set()
        await asyncio.wait_for(self.open.wait(), 20)


def put(session: Any, key: str) -> None:
    """Set a key, as every service does it."""
    session[key] = 1


def routes(gate: Gate, login: Any, logout: Any) -> list[Route]:
    """The service, for what gives Starlette's ``request.session``."""

    async def change(request: Request) -> JSONResponse:
        put(request.session, request.query_params["key"])
        return JSONResponse(None)

    async def slow(request: Request) -> JSONResponse:
        request.session.get("first")
        await gate.wait()
        put(request.session, "late")
        return JSONResponse(None)

    async def nest(request: Request) -> JSONResponse:
        request.session.setdefault("nested", {"number": 0})["number"] += 1
        return JSONResponse(None)

    async def show(request: Request) -> JSONResponse:
        return JSONResponse({key: value for key, value in request.session.items() if key[:2] != "__"})

    return [Route(f"/{each.__name__}", each) for each in (change, slow, nest, show, login, logout)]


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


def litestar_handlers(gate: Gate) -> list[Any]:
    """The service, but for the login and the logout, for what gives Litestar's ``request.session``."""
    from litestar import get

    @get("/change")
    async def change(request: LitestarRequest[Any, Any, Any]) -> None:
        put(request.session, request.query_params["key"])

    @get("/slow")
    async def slow(request: LitestarRequest[Any, Any, Any]) -> None:
        await gate.wait()
        put(request.session, "late")

    @get("/nest")
    async def nest(request: LitestarRequest[Any, Any, Any]) -> None:
        request.session.setdefault("nested", {"number": 0})["number"] += 1

    @get("/show")
    async def show(request: LitestarRequest[Any, Any, Any]) -> dict[str, Any]:
        return dict(request.session)

    return [change, slow, nest, show]


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


class InThreads(AsyncBaseTransport):
    """Calls a WSGI application in threads, so that requests run at the same time."""

    def __init__(self, app: Any) -> None:
        self._wsgi = WSGITransport(app)

    async def handle_async_request(self, request: HttpxRequest) -> HttpxResponse:
        """Answer a request."""
        answer = await asyncio.to_thread(self._wsgi.handle_request, request)
        return HttpxResponse(
            answer.status_code, headers=answer.headers.multi_items(), content=answer.read(), request=request
        )


def flask_app(gate: Gate) -> Flask:
    """The service, but for the login and the logout, for what gives Flask's ``session``."""
    from flask import Flask, request, session

    app = Flask("compared")
    loop = asyncio.get_running_loop()

    @app.get("/change")
    def change() -> str:
        put(session, request.args["key"])
        return "null"

    @app.get("/slow")
    def slow() -> str:
        session.get("first")
        asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(30)
        put(session, "late")
        return "null"

    @app.get("/nest")
    def nest() -> str:
        session.setdefault("nested", {"number": 0})["number"] += 1
        return "null"

    @app.get("/show")
    def show() -> dict[str, Any]:
        return dict(session)

    return app


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
