"""The keys of an OpenID provider: when they are fetched, and what happens if they cannot be."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from joserfc.jwk import OctKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from sqlsessions import InvalidLogoutToken, ProviderUnavailable, SessionStorageMemory
from sqlsessions.integrations.oidc import BackChannelLogout
from sqlsessions.testing import ManualClock

from ..test_browser import free_port
from .provider import CLIENT, OpenIDProvider, new_key, served


class Fetched:
    """Gives the keys of a provider, unless it is away."""

    def __init__(self, provider: OpenIDProvider) -> None:
        self.provider = provider
        self.away = False
        self.asked = 0

    async def __call__(self) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        if self.away:
            raise OSError("away")
        return self.provider.jwks()


@pytest.fixture
def provider(clock: ManualClock) -> OpenIDProvider:
    return OpenIDProvider(clock=clock)


@pytest.fixture
def fetched(provider: OpenIDProvider) -> Fetched:
    return Fetched(provider)


@pytest.fixture
def logout(provider: OpenIDProvider, fetched: Fetched, clock: ManualClock) -> BackChannelLogout:
    storage = SessionStorageMemory(clock=clock)
    return BackChannelLogout(storage, issuer=provider.url, client_id=CLIENT, jwks=fetched)


async def test_keys_are_fetched_once_for_all_who_wait(
    provider: OpenIDProvider, logout: BackChannelLogout, fetched: Fetched
) -> None:
    assert fetched.asked == 0
    await asyncio.gather(*(logout.end(provider.logout_token()) for _ in range(10)))
    assert fetched.asked == 1


async def test_no_key_is_fetched_for_a_token_of_another_algorithm(
    provider: OpenIDProvider, logout: BackChannelLogout, fetched: Fetched
) -> None:
    head, body, signature = provider.logout_token().split(".")
    for token in (f"{head[:-3]}.{body}.{signature}", "x", f"eyJhbGciOiJub25lIn0.{body}."):
        with pytest.raises(InvalidLogoutToken):
            await logout.end(token)
    assert fetched.asked == 0


async def test_for_keys_that_are_not_known_the_provider_is_asked_every_ten_seconds(
    provider: OpenIDProvider, logout: BackChannelLogout, fetched: Fetched, clock: ManualClock
) -> None:
    await logout.end(provider.logout_token())
    provider.key = new_key("2")
    for _ in range(20):
        with pytest.raises(InvalidLogoutToken, match="does not have"):
            await logout.end(provider.logout_token())
    assert fetched.asked == 1
    clock.advance(11)
    assert await logout.end(provider.logout_token()) == 0
    assert fetched.asked == 2
    provider.key = new_key("1")
    clock.advance(5)
    with pytest.raises(InvalidLogoutToken):
        await logout.end(provider.logout_token())
    assert fetched.asked == 2


async def test_keys_are_fetched_again_after_an_hour(
    provider: OpenIDProvider, logout: BackChannelLogout, fetched: Fetched, clock: ManualClock
) -> None:
    await logout.end(provider.logout_token())
    leaked, provider.key = provider.key, new_key("2")
    clock.advance(3601)
    assert await logout.end(provider.logout_token()) == 0
    provider.key = leaked
    with pytest.raises(InvalidLogoutToken):
        await logout.end(provider.logout_token())
    clock.advance(-100_000)  # set back
    assert await logout.end(provider.logout_token()) == 0
    assert fetched.asked == 3


async def test_the_keys_at_hand_serve_while_the_provider_is_away(
    provider: OpenIDProvider,
    logout: BackChannelLogout,
    fetched: Fetched,
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await logout.end(provider.logout_token())
    fetched.away = True
    clock.advance(3601)
    with caplog.at_level(logging.WARNING):
        assert await logout.end(provider.logout_token()) == 0
    assert "could not be fetched" in caplog.text
    provider.key = new_key("2")
    for _ in range(3):
        with pytest.raises(ProviderUnavailable):
            await logout.end(provider.logout_token())
    assert fetched.asked == 2
    fetched.away = False
    clock.advance(11)
    assert await logout.end(provider.logout_token()) == 0


async def test_without_keys_a_logout_fails_for_now(
    provider: OpenIDProvider, logout: BackChannelLogout, fetched: Fetched, clock: ManualClock
) -> None:
    fetched.away = True
    token = provider.logout_token()
    for _ in range(3):
        answer = await logout.respond(token)
        assert (answer.status, json.loads(answer.body)["error"]) == (400, "temporarily_unavailable")
    assert fetched.asked == 1
    fetched.away = False
    clock.advance(11)
    assert (await logout.respond(token)).status == 200


@pytest.mark.parametrize(
    "jwks",
    [
        None,
        [],
        {"keys": None},
        {"keys": []},
        {"keys": [{"kty": "new"}]},
        {"keys": [OctKey.import_key("secret" * 8).as_dict(private=True)]},
        {"keys": [new_key("1").as_dict(private=False) | {"use": "enc"}]},
    ],
    ids=range(7),
)
async def test_what_has_no_keys_for_signatures(jwks: Any, provider: OpenIDProvider) -> None:
    logout = BackChannelLogout(
        SessionStorageMemory(), issuer=provider.url, client_id=CLIENT, jwks=lambda: jwks
    )
    with pytest.raises(ProviderUnavailable):
        await logout.end(provider.logout_token())


async def test_answers_that_are_not_taken(provider: OpenIDProvider, clock: ManualClock) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    jwks = provider.jwks()

    def discovery(path: str, **changes: Any) -> Route:
        async def answer(_: Request) -> Response:
            return JSONResponse({"issuer": url + path, "jwks_uri": f"{url}/jwks"} | changes)

        return Route(f"{path}/.well-known/openid-configuration", answer)

    async def redirect(_: Request) -> Response:
        return RedirectResponse(f"{url}/jwks")

    routes = [
        discovery(""),
        discovery("/tenant"),
        discovery("/other", issuer="https://other.example"),
        discovery("/plain", jwks_uri="http://id.example/jwks"),
        discovery("/nothing", jwks_uri=None),
        Route("/jwks", lambda _: JSONResponse(jwks)),
        Route("/redirect", redirect),
        Route("/error", lambda _: JSONResponse(jwks, 500)),
        Route("/text", lambda _: Response("keys")),
        Route("/list", lambda _: JSONResponse([jwks])),
        Route("/large", lambda _: JSONResponse(jwks | {"more": "x" * (1 << 20)})),
        Route("/deep", lambda _: Response("[" * 100_000)),
    ]

    async def keys_of(issuer: str, where: str | None) -> Any:
        provider.url = issuer
        storage = SessionStorageMemory(clock=clock)
        logout = BackChannelLogout(storage, issuer=issuer, client_id=CLIENT, jwks=where)
        return await logout.verify(provider.logout_token())

    async with served(Starlette(routes=routes), port):
        for issuer in (url, f"{url}/tenant"):
            assert (await keys_of(issuer, None)).issuer == issuer
        assert await keys_of("https://id.example", f"{url}/jwks")
        for path in ("/other", "/plain", "/nothing", "/missing"):
            with pytest.raises(ProviderUnavailable):
                await keys_of(url + path, None)
        for path in ("/redirect", "/error", "/text", "/list", "/large", "/deep", "/missing"):
            with pytest.raises(ProviderUnavailable):
                await keys_of("https://id.example", url + path)
    with pytest.raises(ProviderUnavailable):
        await keys_of(url, None)
