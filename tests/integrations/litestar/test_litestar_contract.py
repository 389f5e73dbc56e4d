"""Litestar: the contract of integrations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, get, route
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response import Redirect

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations.litestar import (
    SessionConfig,
    end_other_sessions,
    end_session,
    list_sessions,
    load,
    require_fresh,
)
from sqlsessions.testing import Gate, Send, asgi

from ..contract import STEPS, OnEveryStorage, with_transports

NAMES = {"cookie_name": "key", "same_site": "samesite"}


@get("/untouched")
async def untouched() -> None: ...


@route("/{name:str}", http_method=["GET", "POST"])
async def respond(request: Request[Any, Any, State], name: FromPath[str]) -> Any:
    """Do what a route of the standard application does, after the gate if the request is to be held."""
    query = {key: values[0] for key, values in request.query_params.dict().items()}
    if "Hold" in request.headers:
        await load(request)
        await request.app.state.gate.wait()
    session: Any = request.session
    match name:
        case "logout":
            request.clear_session()
        case "replace":
            request.set_session(query)
        case "leave":
            session.update(query)
            return Redirect("/show")
        case "refuse":
            session.update(query)
            raise NotFoundException
        case "sensitive":
            await require_fresh(request, float(query["seconds"]))
        case "sessions":
            return [info.key async for info in list_sessions(request)]
        case "end":
            return await end_session(request, query["key"])
        case "end_others":
            return await end_other_sessions(request)
        case _:
            return STEPS[name](session, query)
    return None


class TestLitestar(OnEveryStorage):
    @asynccontextmanager
    async def client(
        self, storage: ManagedSessionStorage, gate: Gate, **settings: Any
    ) -> AsyncIterator[Send]:
        options = with_transports({NAMES.get(name, name): value for name, value in settings.items()})
        yield asgi(
            Litestar(
                [untouched, respond],
                middleware=[SessionConfig(storage, **options).middleware],
                state=State({"gate": gate}),
                logging_config=None,  # which would take caplog's handler away
            )
        )
