"""When a user logged in: what becomes of it between requests, and answers of the application's own."""

from __future__ import annotations

import pickle
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from litestar import Litestar, Request, Response, get
from litestar.testing import TestClient as LitestarClient
from starlette.responses import JSONResponse
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from sqlsessions import InvalidArgument, ReauthenticationRequired, SessionStorageMemory
from sqlsessions.integrations._web.session import Session
from sqlsessions.integrations.fastapi import Session as FastSession
from sqlsessions.integrations.fastapi import SessionMiddleware, fresh
from sqlsessions.integrations.litestar import SessionConfig
from sqlsessions.integrations.litestar import require_fresh as require_fresh_in_litestar
from sqlsessions.integrations.starlette import require_fresh
from sqlsessions.testing import ManualClock

from .moving import answer, begin, data_of, id_of, login, process, read
from .starlette.app import app_of


@pytest.fixture
def memory(clock: ManualClock) -> SessionStorageMemory:
    return SessionStorageMemory(clock=clock)


async def since(manager: Any, id: str) -> float | None:
    at = (await read(manager, id)).authenticated_at
    return None if at is None else at.timestamp()


async def test_a_login_is_dated_and_a_logout_forgets_it(
    memory: SessionStorageMemory, clock: ManualClock
) -> None:
    manager = process(memory)
    id = await begin(manager, cart=1)
    assert await since(manager, id) is None
    clock.advance(5)
    id = await login(manager, id)
    assert await since(manager, id) == clock()
    session = await read(manager, id)
    session.subject = None
    assert session.authenticated_at is None
    await answer(manager, session)
    assert await since(manager, id_of(session)) is None
    assert await data_of(manager, id_of(session)) == {"cart": 1}


@pytest.mark.parametrize("how", ["merged", "followed"])
async def test_a_slow_change_keeps_the_time_of_the_login(
    memory: SessionStorageMemory, clock: ManualClock, how: str
) -> None:
    one, other = process(memory), process(memory)
    id = await begin(one, "ann")
    slow = await read(other, id)
    slow["late"] = 1
    clock.advance(100)
    session = await read(one, id)
    if how == "followed":
        session.reauthenticated()
    session["a"] = 1
    await answer(one, session)
    await answer(other, slow)
    assert await data_of(one, id_of(session)) == {"a": 1, "late": 1}
    assert await since(one, id_of(session)) == clock() - (0 if how == "followed" else 100)


async def test_nobody_authenticates_again(memory: SessionStorageMemory) -> None:
    with pytest.raises(InvalidArgument, match="nobody is logged in"):
        Session().reauthenticated()


def test_a_websocket_is_refused(memory: SessionStorageMemory) -> None:
    async def admin(websocket: WebSocket) -> None:
        await require_fresh(websocket, 60)

    app = app_of(memory)
    app.routes.append(WebSocketRoute("/admin", admin))
    with TestClient(app) as client, pytest.raises(WebSocketDisconnect) as closed:  # noqa: SIM117
        with client.websocket_connect("/admin"):
            pass
    assert closed.value.code == 1008


def test_an_application_may_answer_itself(memory: SessionStorageMemory) -> None:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, storage=memory)

    @app.exception_handler(ReauthenticationRequired)
    async def handled(_request: Any, error: ReauthenticationRequired) -> JSONResponse:
        return JSONResponse(error.max_age, status_code=418)

    @app.get("/sensitive")
    async def sensitive(session: Annotated[FastSession, Depends(fresh(60))]) -> str | None:
        return session.subject

    response = TestClient(app).get("/sensitive")
    assert (response.status_code, response.json()) == (418, 60)
    with pytest.raises(InvalidArgument, match="max_age"):
        fresh(0)


@pytest.mark.parametrize("key", [401, ReauthenticationRequired], ids=["status", "error"])
def test_an_application_of_litestar_may_answer_itself(memory: SessionStorageMemory, key: Any) -> None:
    @get("/sensitive")
    async def sensitive(request: Request[Any, Any, Any]) -> None:
        await require_fresh_in_litestar(request, 60)

    def handled(_request: Any, error: Any) -> Response[float]:
        return Response(error.max_age, status_code=401)

    app = Litestar(
        [sensitive], middleware=[SessionConfig(memory).middleware], exception_handlers={key: handled}
    )
    with LitestarClient(app) as client:
        assert client.get("/sensitive").json() == 60


def test_the_error_is_copied() -> None:
    copy = pickle.loads(pickle.dumps(ReauthenticationRequired(300)))  # noqa: S301
    assert copy.max_age == 300
    assert str(copy) == "this needs a login within the last 300 seconds"
