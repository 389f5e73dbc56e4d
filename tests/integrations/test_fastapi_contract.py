"""FastAPI: the contract of integrations, with the session as a dependency."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations.fastapi import CurrentSession, SessionMiddleware
from sqlsessions.integrations.starlette import end_other_sessions, end_session, list_sessions, require_fresh
from sqlsessions.testing import Gate, Send, asgi

from .contract import STEPS, OnEveryStorage, with_transports


async def untouched() -> None: ...


async def respond(name: str, request: Request, session: CurrentSession) -> Any:
    """Do what a route of the standard application does, after the gate if the request is to be held."""
    query = dict(request.query_params)
    if "Hold" in request.headers:
        session.get("a")
        await request.app.state.gate.wait()
    match name:
        case "leave":
            session.update(query)
            return RedirectResponse("/show")
        case "refuse":
            session.update(query)
            raise HTTPException(404)
        case "sensitive":
            await require_fresh(request, float(query["seconds"]))
            return None
        case "sessions":
            return [info.key async for info in list_sessions(request)]
        case "end":
            return await end_session(request, query["key"])
        case "end_others":
            return await end_other_sessions(request)
        case _:
            return STEPS[name](session, query)


class TestFastAPI(OnEveryStorage):
    @asynccontextmanager
    async def client(
        self, storage: ManagedSessionStorage, gate: Gate, **settings: Any
    ) -> AsyncIterator[Send]:
        names = {"cookie_name": "session_cookie", "secure": "https_only"}
        options = with_transports({names.get(name, name): value for name, value in settings.items()})
        app = FastAPI()
        app.add_middleware(SessionMiddleware, storage=storage, **options)
        app.state.gate = gate
        app.get("/untouched")(untouched)
        app.api_route("/{name}", methods=["GET", "POST"])(respond)
        yield asgi(app)
