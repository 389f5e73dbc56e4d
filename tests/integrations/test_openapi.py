"""Sessions in the OpenAPI schemas of applications."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.security import APIKeyCookie, HTTPBearer, OAuth2PasswordBearer
from fastapi.testclient import TestClient
from litestar.security.session_auth import SessionAuth

from sqlsessions import InvalidArgument, SessionStorageMemory
from sqlsessions.integrations.fastapi import (
    Bearer,
    Cookie,
    CurrentSession,
    Session,
    SessionMiddleware,
    SessionModel,
    document_sessions,
    fresh,
)
from sqlsessions.integrations.litestar import SessionConfig


@dataclass
class Cart:
    items: int = 0


async def user(session: CurrentSession) -> str | None:
    return session.subject


oauth = OAuth2PasswordBearer("token", auto_error=False)


def application(*, documented: bool = True, **settings: Any) -> FastAPI:
    app, router = FastAPI(), APIRouter(prefix="/router")

    @app.get("/none")
    async def none() -> None: ...

    @app.get("/session")
    @app.post("/session")
    async def session(session: CurrentSession) -> None: ...

    @app.get("/fresh")
    async def recent(session: Annotated[Session, Depends(fresh(300))]) -> None: ...

    @app.get("/cart/{item:path}")
    async def cart(
        item: str, session: CurrentSession, cart: Annotated[Cart, Depends(SessionModel(Cart))]
    ) -> None: ...

    @router.get("/user")
    async def current(user: Annotated[str, Depends(user)], token: Annotated[str, Depends(oauth)]) -> None: ...

    @app.get("/hidden", include_in_schema=False)
    async def hidden(session: CurrentSession) -> None: ...

    if documented:
        document_sessions(app)
    app.include_router(router)
    app.add_middleware(SessionMiddleware, storage=SessionStorageMemory(), **settings)
    return app


def security(schema: dict[str, Any]) -> dict[str, list[str]]:
    """The names of the schemes of each operation."""
    return {
        f"{method} {path}": [name for each in operation.get("security", []) for name in each]
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    }


def described(scheme: Any) -> dict[str, Any]:
    """A scheme of FastAPI's, as a schema has it."""
    found: dict[str, Any] = scheme.model.model_dump(by_alias=True, exclude_none=True, mode="json")
    return found


def without_text(scheme: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in scheme.items() if key != "description"}


def test_the_cookie_is_a_security_scheme_of_the_routes_with_sessions() -> None:
    schema = application(https_only=True).openapi()
    assert security(schema) == {
        "get /none": [],
        "get /session": ["SessionCookie"],
        "post /session": ["SessionCookie"],
        "get /fresh": ["SessionCookie"],
        "get /cart/{item}": ["SessionCookie"],
        "get /router/user": ["OAuth2PasswordBearer", "SessionCookie"],
    }
    schemes = schema["components"]["securitySchemes"]
    assert without_text(schemes["SessionCookie"]) == described(APIKeyCookie(name="__Host-session"))


@pytest.mark.parametrize(
    ("transports", "expected"),
    [
        ([Cookie("own"), Bearer()], ["SessionCookie", "SessionBearer"]),
        ([Bearer(), Cookie("own")], ["SessionBearer", "SessionCookie"]),
        ([Bearer("X-Auth")], ["SessionBearer"]),
        ([Cookie("own")], ["SessionCookie"]),
    ],
    ids=str,
)
def test_transports_are_schemes(transports: list[Any], expected: list[str]) -> None:
    schema = application(transports=transports).openapi()
    assert security(schema)["get /session"] == expected
    schemes = schema["components"]["securitySchemes"]
    for name in expected:
        scheme = HTTPBearer() if name == "SessionBearer" else APIKeyCookie(name="own")
        assert without_text(schemes[name]) == described(scheme)


def test_a_service_sets_it_right_when_it_starts() -> None:
    app = application(documented=False, session_cookie="own")
    assert app.openapi()["components"]["securitySchemes"]["SessionCookie"]["name"] == "session"
    with TestClient(app) as client:
        first, second = (client.get("/openapi.json").json() for _ in range(2))
    assert first == second == app.openapi()
    assert security(first)["get /session"] == ["SessionCookie"]
    assert first["components"]["securitySchemes"]["SessionCookie"]["name"] == "own"


def test_an_application_without_sessions() -> None:
    app = FastAPI()
    document_sessions(app)
    with pytest.raises(InvalidArgument, match="the application has no SessionMiddleware"):
        app.openapi()
    app.add_middleware(SessionMiddleware, storage=SessionStorageMemory())
    assert "components" not in app.openapi()


def test_litestar_s_session_auth_names_the_cookie() -> None:
    def auth(**settings: Any) -> Any:
        config = SessionConfig(SessionStorageMemory(), **settings)
        config.ttl = 60  # a setting that changes leaves the name as it is
        made: Any = SessionAuth(retrieve_user_handler=lambda *_: None, session_backend_config=config)
        return made.openapi_components.security_schemes["sessionCookie"].name

    assert auth() == "session"
    assert auth(secure=True) == "__Host-session"
    assert auth(transports=[Bearer(), Cookie("own")]) == "own"
    assert auth(transports=[Cookie(secure=True)]) == "__Host-session"
