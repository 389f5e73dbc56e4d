"""`Browser`: a client that keeps one cookie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

from .http import HOST, HttpRequest, HttpResponse, Send

B = TypeVar("B", bound="Browser")

ERROR = 400  # the lowest status of one


@dataclass(frozen=True, slots=True)
class SetCookie:
    """What a ``Set-Cookie`` header says.

    Attributes:
        value: The cookie's value, a session id.
        attributes: Its attributes, in lower case; a flag's value is empty.
    """

    value: str
    attributes: dict[str, str]

    @property
    def clears(self) -> bool:
        """Whether it takes the cookie away."""
        return self.attributes.get("max-age") == "0" or "1970" in self.attributes.get("expires", "")


class Browser:
    """Sends requests with the session cookie that it has, and keeps the one that a response sets.

    Args:
        send: Sends the requests.
        cookie_name: The name of the session cookie.
        id: The value of the cookie to begin with; None is none.
        scheme: ``"http"`` or ``"https"``.

    Attributes:
        id: The value of the cookie; None is none.
    """

    def __init__(self, send: Send, cookie_name: str, id: str | None = None, scheme: str = "http") -> None:
        self._send = send
        self.cookie_name = cookie_name
        self.id = id
        self.scheme = scheme

    def other(self, id: str | None = None, scheme: str = "http") -> Browser:
        """Another browser for the same service.

        Args:
            id: The value of its cookie; None is none.
            scheme: ``"http"`` or ``"https"``.
        """
        return Browser(self._send, self.cookie_name, id, scheme)

    def as_a(self, kind: type[B], id: str | None = None) -> B:
        """A client of another kind for the same service, with an id."""
        return kind(self._send, self.cookie_name, id)

    def headers(self) -> dict[str, str]:
        """The headers that present the id."""
        return {} if self.id is None else {"Cookie": f"{self.cookie_name}={self.id}"}

    async def send(self, method: str, path: str, *, hold: bool = False, **query: Any) -> HttpResponse:
        """Send a request, whatever the response says.

        Args:
            method: ``"GET"`` or ``"POST"``.
            path: The route.
            hold: Whether the handler is to wait at the gate.
            query: The parameters.
        """
        headers = {"Host": HOST} | self.headers()
        if hold:
            headers["Hold"] = "1"
        response = await self._send(HttpRequest(method, path, urlencode(query), headers, self.scheme))
        self.receive(response)
        return response

    def receive(self, response: HttpResponse) -> None:
        """Keep the cookie that a response sets, such as one that arrives later than others."""
        if (cookie := self.cookie(response)) is not None:
            self.id = None if cookie.clears else cookie.value

    async def get(self, path: str, **query: Any) -> HttpResponse:
        """Send a GET request, which must succeed."""
        return _succeeded(await self.send("GET", path, **query))

    async def post(self, path: str, **query: Any) -> HttpResponse:
        """Send a POST request, which must succeed."""
        return _succeeded(await self.send("POST", path, **query))

    async def held(self, path: str, **query: Any) -> HttpResponse:
        """Send a POST request that waits at the gate, whatever the response says."""
        return await self.send("POST", path, hold=True, **query)

    async def data(self) -> Any:
        """The data of the session."""
        return (await self.get("/show")).json()

    async def begin(self, **data: Any) -> str:
        """Begin a session with some data; gives its id."""
        await self.post("/put", **data)
        return self.has_id()

    def has_id(self) -> str:
        """The value of the cookie, which must be there."""
        assert self.id is not None, "the service gave no session cookie"
        return self.id

    def cookie(self, response: HttpResponse) -> SetCookie | None:
        """The session cookie that a response sets, if any; more than one is an error."""
        found = [_parsed(value) for value in response.all("Set-Cookie")]
        own = [cookie for name, cookie in found if name == self.cookie_name]
        assert len(own) <= 1, "the response sets the session cookie more than once"
        return own[0] if own else None


def _parsed(header: str) -> tuple[str, SetCookie]:
    pair, *attributes = header.split(";")
    name, _, value = pair.strip().partition("=")
    split = [attribute.strip().lower().partition("=") for attribute in attributes]
    return name, SetCookie(value, {key: text for key, _, text in split})


def _succeeded(response: HttpResponse) -> HttpResponse:
    assert response.status < ERROR, f"the service answered {response.status}: {response.body[:500]!r}"
    return response
