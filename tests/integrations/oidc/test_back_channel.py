"""A user logs out at an OpenID provider, and the sessions of that login end; over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from sqlsessions import CacheStorage, EncryptedStorage, SqlSessionStorage
from sqlsessions.integrations.oidc import BackChannelLogout

from .provider import CLIENT, OpenIDProvider, new_key, running


class Browsers:
    """Browsers of users, each logged in by the provider."""

    def __init__(self, service: str, provider: OpenIDProvider, stack: AsyncExitStack) -> None:
        self._service = service
        self._provider = provider
        self._stack = stack

    async def login(self, user: str) -> httpx2.AsyncClient:
        # Each site has a jar of its own: cookies of hosts do not tell ports apart, and both are of one host.
        browser = await self._stack.enter_async_context(httpx2.AsyncClient(follow_redirects=True))
        answer = await browser.get(f"{self._service}/login", params={"user": user})
        assert (answer.status_code, answer.json()) == (200, f"user of {user}")
        return browser

    async def user(self, browser: httpx2.AsyncClient) -> Any:
        return (await browser.get(f"{self._service}/me")).json()

    async def logout(self, browser: httpx2.AsyncClient, **options: Any) -> int:
        await browser.post(f"{self._provider.url}/logout", params=options)
        return self._provider.answers[-1].status_code


@pytest.fixture
async def storage(sql_url: str) -> AsyncIterator[SqlSessionStorage]:
    async with SqlSessionStorage(sql_url) as made:
        yield made


async def test_a_logout_at_the_provider_ends_the_sessions_of_its_sid(storage: SqlSessionStorage) -> None:
    async with AsyncExitStack() as stack:
        provider, url = await stack.enter_async_context(running(storage))
        browsers = Browsers(url, provider, stack)
        laptop, phone, other = [await browsers.login(user) for user in ("ann", "ann", "bob")]
        again = await laptop.get(
            f"{url}/login", params={"user": "ann"}
        )  # a new id at the service, the same sid
        assert again.json() == "user of ann"
        assert await browsers.logout(laptop) == 200
        assert provider.answers[-1].headers["cache-control"] == "no-store"
        assert [await browsers.user(each) for each in (laptop, phone, other)] == [
            None,
            "user of ann",
            "user of bob",
        ]
        assert provider.fetches == 1
        third = await browsers.login("ann")
        assert await browsers.logout(phone, everywhere="yes") == 200
        assert [await browsers.user(each) for each in (phone, third, other)] == [None, None, "user of bob"]


async def test_forged_and_used_tokens_end_nothing(storage: SqlSessionStorage) -> None:
    async with AsyncExitStack() as stack:
        provider, url = await stack.enter_async_context(running(storage))
        browsers = Browsers(url, provider, stack)
        ann = await browsers.login("ann")
        forger = OpenIDProvider(provider.url)
        forged = await provider.send(forger.logout_token(sid=None))
        assert (forged.status_code, forged.headers["cache-control"]) == (400, "no-store")
        assert forged.json()["error"] == "invalid_request"
        assert await browsers.user(ann) == "user of ann"
        token = provider.logout_token(sid=None)
        assert (await provider.send(token)).status_code == 200
        assert await browsers.user(ann) is None
        ann = await browsers.login("ann")
        assert (await provider.send(token)).status_code == 400
        assert await browsers.user(ann) == "user of ann"


async def test_a_provider_that_changes_its_key_is_asked_again(storage: SqlSessionStorage) -> None:
    async with running(storage) as (provider, _):
        assert (await provider.send(provider.logout_token())).status_code == 200
        provider.key = new_key("2")
        logout = BackChannelLogout(storage, issuer=provider.url, client_id=CLIENT)
        assert await logout.end(provider.logout_token()) == 0
        assert provider.fetches == 2


async def test_of_several_processes_one_takes_a_token(sql_url: str) -> None:
    provider = OpenIDProvider()
    async with AsyncExitStack() as stack:
        storages = [await stack.enter_async_context(SqlSessionStorage(sql_url)) for _ in range(4)]
        await storages[0].write_bytes("id", b"data", labels=[f"oidc sid {provider.url} s1"])
        token = provider.logout_token()
        processes = [
            BackChannelLogout(each, issuer=provider.url, client_id=CLIENT, jwks=provider.jwks)
            for each in storages
        ]
        answers = await asyncio.gather(*(each.respond(token) for each in processes * 4))
        assert sorted(answer.status for answer in answers) == [200] + [400] * 15
        assert await storages[0].info("id") is None


async def test_layers_do_not_matter(storage: SqlSessionStorage) -> None:
    layered = CacheStorage(EncryptedStorage(storage, keys=[b"k" * 32], encrypt_subjects=True))
    provider = OpenIDProvider()
    logout = BackChannelLogout(layered, issuer=provider.url, client_id=CLIENT, jwks=provider.jwks)
    await layered.write_bytes("id", b"data", labels=[f"oidc sid {provider.url} s1"])
    token = provider.logout_token()
    assert await logout.end(token) == 1
    assert await layered.info("id") is None
    assert (await logout.respond(token)).status == 400
