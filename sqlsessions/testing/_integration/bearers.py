"""The session id as a bearer token."""

from __future__ import annotations

from ...storage import new_session_id
from ..spy import SpyStorage
from .base import Integration, live
from .browser import Browser
from .gate import Gate
from .http import HttpResponse
from .ids import FOREIGN, MALFORMED

HEADER = "X-Session-Token"


class Client(Browser):
    """A client that keeps no cookies: it sends the id as a bearer token, and keeps the one that a response gives."""

    def headers(self) -> dict[str, str]:
        return {"Authorization": "Bearer" if self.id is None else f"Bearer {self.id}"}

    def receive(self, response: HttpResponse) -> None:
        assert "set-cookie" not in response.names(), "the service set a cookie for a bearer"
        given = response.all(HEADER)
        assert len(given) <= 1, f"the response has more than one {HEADER}"
        if given:
            self.id = given[0] or None


class Both(Browser):
    """A browser that also sends a bearer token."""

    token = ""

    def headers(self) -> dict[str, str]:
        return super().headers() | {"Authorization": f"Bearer {self.token}"}


def names_in(response: HttpResponse, name: str) -> set[str]:
    """The names in the values of a header, in lower case."""
    return {each.strip().lower() for value in response.all(name) for each in value.split(",")}


class Bearers(Integration):
    async def test_a_bearer_keeps_a_session(self, storage: SpyStorage, gate: Gate) -> None:
        async with self.serving(storage, gate, bearer=True) as browser:
            client = browser.as_a(Client)
            begun = await client.post("/put", a=1)
            id = client.has_id()
            assert await storage.delegate.info(id) is not None
            assert begun.all("Cache-Control") == ["no-store"]
            assert storage.calls == ["write"]
            for response in (await client.get("/show"), await client.post("/put", a=1)):
                assert HEADER.lower() not in response.names()
                assert {"authorization", "cookie"} <= names_in(response, "Vary")
                assert response.all("Cache-Control") == ["private"]
            assert storage.calls == ["write", "read", "read"]
            changed = await client.post("/put", b=2)
            assert HEADER.lower() not in changed.names()
            assert await client.data() == {"a": "1", "b": "2"}

    async def test_a_login_gives_a_bearer_a_new_id(self, storage: SpyStorage, gate: Gate) -> None:
        async with self.serving(storage, gate, bearer=True) as browser:
            client = browser.as_a(Client)
            old = await client.begin(a=1)
            await client.post("/login", user="7")
            assert client.id not in (None, old)
            assert await client.data() == {"a": "1"}
            assert await storage.delegate.info(old) is None
            assert await browser.as_a(Client, old).data() == {}

    async def test_a_logout_takes_the_id_of_a_bearer_away(self, storage: SpyStorage, gate: Gate) -> None:
        async with self.serving(storage, gate, bearer=True) as browser:
            client = browser.as_a(Client)
            await client.begin(a=1)
            response = await client.post("/logout")
            assert response.all(HEADER) == [""]
            assert await live(storage) == []

    async def test_a_foreign_bearer_is_not_adopted(self, storage: SpyStorage, gate: Gate) -> None:
        async with self.serving(storage, gate, bearer=True) as browser:
            for presented in (*FOREIGN, *MALFORMED, f"{new_session_id()} {new_session_id()}"):
                storage.calls.clear()
                client = browser.as_a(Client, presented)
                assert await client.data() == {}
                assert client.id is None
                assert storage.writes == []
                fixated = browser.as_a(Client, presented)
                await fixated.post("/put", a=1)
                assert fixated.id not in (None, presented)
                assert await fixated.data() == {"a": "1"}
                assert await browser.as_a(Client, presented).data() == {}

    async def test_a_cookie_goes_before_a_bearer(self, storage: SpyStorage, gate: Gate) -> None:
        async with self.serving(storage, gate, bearer=True) as browser:
            client = browser.as_a(Client)
            token = await client.begin(a="bearer")
            both = browser.as_a(Both, await browser.begin(a="cookie"))
            both.token = token
            assert await both.data() == {"a": "cookie"}
            response = await both.post("/regenerate")
            assert both.cookie(response) is not None
            assert HEADER.lower() not in response.names()
            assert await client.data() == {"a": "bearer"}

    async def test_a_bearer_counts_where_it_is_asked_for_alone(self, browser: Browser) -> None:
        other = browser.as_a(Both)
        other.token = await browser.begin(a=1)
        response = await other.get("/show")
        assert response.json() == {}
        assert "authorization" not in names_in(response, "Vary")
