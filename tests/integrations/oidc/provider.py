"""A small OpenID provider, and a service that logs its users in there; each over HTTP, on a port of its own."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import httpx2
import uvicorn
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations.oidc import BackChannelLogout, labels_of
from sqlsessions.integrations.starlette import SessionMiddleware, current_session

from ..test_browser import free_port

CLIENT = "shop"
EVENT = "http://schemas.openid.net/event/backchannel-logout"
MINUTE = 60


def new_key(kid: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"})


class OpenIDProvider:
    """Logs in whoever it is told, by the code flow, and out by back channel.

    Attributes:
        key: The key that signs.
        fetches: How often its keys were fetched.
        logout_uri: Where logout tokens of the client go.
        answers: What was answered to those.
        app: Its ASGI application.
    """

    def __init__(self, url: str = "https://id.example", clock: Callable[[], float] = time.time) -> None:
        self.url = url
        self.clock = clock
        self.key = new_key("1")
        self.fetches = 0
        self.logout_uri = ""
        self.answers: list[httpx2.Response] = []
        self._users: dict[str, str] = {}
        self._codes: dict[str, dict[str, Any]] = {}
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._configuration),
                Route("/jwks", self._jwks),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/logout", self._logout, methods=["POST"]),
            ]
        )

    def jwks(self) -> Any:
        self.fetches += 1
        return KeySet([self.key]).as_dict()

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Those of a logout token; None takes one away."""
        now = int(self.clock())
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 2 * MINUTE,
            "jti": secrets.token_hex(),
            "events": {EVENT: {}},
            "sid": "s1",
            "sub": "ann",
        }
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def signed(self, claims: dict[str, Any], **header: Any) -> str:
        kept = {
            name: value for name, value in ({"alg": "RS256", "kid": self.key.kid} | header).items() if value
        }
        return jwt.encode(kept, claims, self.key, [kept["alg"]], default_type=None)

    def logout_token(self, **changes: Any) -> str:
        return self.signed(self.claims(**changes), typ="logout+jwt")

    async def _configuration(self, _: Request) -> Response:
        ends = {
            f"{name}_endpoint": f"{self.url}/{path}"
            for name, path in (("authorization", "authorize"), ("token", "token"))
        }
        return JSONResponse({"issuer": self.url, "jwks_uri": f"{self.url}/jwks"} | ends)

    async def _jwks(self, _: Request) -> Response:
        return JSONResponse(self.jwks())

    async def _authorize(self, request: Request) -> Response:
        asked = request.query_params
        sid = request.cookies.get("provider", secrets.token_hex())
        user = self._users.setdefault(sid, asked.get("login_hint", ""))
        code = secrets.token_hex()
        self._codes[code] = {"sub": user, "sid": sid, "nonce": asked["nonce"], "aud": asked["client_id"]}
        response = RedirectResponse(
            f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}", 303
        )
        response.set_cookie("provider", sid)
        return response

    async def _token(self, request: Request) -> Response:
        async with request.form() as form:
            known = self._codes.pop(str(form["code"]))
        now = int(self.clock())
        return JSONResponse(
            {"id_token": self.signed({"iss": self.url, "iat": now, "exp": now + MINUTE, **known})}
        )

    async def _logout(self, request: Request) -> Response:
        sid = request.cookies["provider"]
        user = self._users.pop(sid)
        everywhere = request.query_params.get("everywhere")
        token = self.logout_token(sub=user, sid=None if everywhere else sid)
        self.answers.append(await self.send(token))
        return Response(status_code=204)

    async def send(self, token: str) -> httpx2.Response:
        async with httpx2.AsyncClient() as client:
            return await client.post(self.logout_uri, data={"logout_token": token})


def service(storage: ManagedSessionStorage, provider: OpenIDProvider, url: str) -> Starlette:
    """A service with the code flow, as a service of one's own would have it by a library."""

    async def login(request: Request) -> Response:
        request.session["state"], request.session["nonce"] = secrets.token_hex(), secrets.token_hex()
        asked = {
            "client_id": CLIENT,
            "redirect_uri": f"{url}/callback",
            "login_hint": request.query_params["user"],
            "state": request.session["state"],
            "nonce": request.session["nonce"],
        }
        return RedirectResponse(f"{provider.url}/authorize?{urlencode(asked)}", 303)

    async def callback(request: Request) -> Response:
        assert request.query_params["state"] == request.session.pop("state")
        async with httpx2.AsyncClient() as client:
            answer = await client.post(f"{provider.url}/token", data={"code": request.query_params["code"]})
        claims = jwt.decode(answer.json()["id_token"], provider.key, ["RS256"]).claims
        assert claims["nonce"] == request.session.pop("nonce")
        session = current_session(request)
        session.subject = f"user of {claims['sub']}"
        session.labels = labels_of(claims)
        return JSONResponse(session.subject)

    async def me(request: Request) -> Response:
        return JSONResponse(current_session(request).subject)

    logout = BackChannelLogout(storage, issuer=provider.url, client_id=CLIENT)
    return Starlette(
        routes=[
            Route("/login", login),
            Route("/callback", callback),
            Route("/me", me),
            Route("/backchannel-logout", logout, methods=["POST"]),
        ],
        middleware=[Middleware(SessionMiddleware, storage=storage)],
    )


@asynccontextmanager
async def served(app: Any, port: int) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def running(storage: ManagedSessionStorage) -> AsyncIterator[tuple[OpenIDProvider, str]]:
    """A provider and a service over a storage; with the URL of the service."""
    ports = free_port(), free_port()
    provider = OpenIDProvider(f"http://127.0.0.1:{ports[0]}")
    url = f"http://127.0.0.1:{ports[1]}"
    provider.logout_uri = f"{url}/backchannel-logout"
    async with served(provider.app, ports[0]), served(service(storage, provider, url), ports[1]):
        yield provider, url
