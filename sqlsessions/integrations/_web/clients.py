"""What is known of the client of a request, kept with its session for those who ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import InvalidArgumentType
from ...info import SessionInfo
from .session import Session
from .transports import Headers

LONGEST = 512
"""The most characters of a user agent that are kept: anybody may send as many as a server takes."""


class ClientRequest:
    """The request that a session is used by, as far as it tells of the client.

    Args:
        headers: Gives all values of a header.
        address: Gives the client's address, as the server tells it.
    """

    __slots__ = ("_address", "_headers")

    def __init__(self, headers: Headers, address: Callable[[], str | None]) -> None:
        self._headers = headers
        self._address = address

    @property
    def address(self) -> str | None:
        """The client's address, as the server tells it: behind a proxy, that of the proxy unless the server is told so."""
        return self._address()

    def header(self, name: str) -> str | None:
        """The last value of a header; None if there is none."""
        return next(iter(reversed(self._headers(name))), None)


ClientInfo = Callable[[ClientRequest], Mapping[str, str] | None]
"""Gives what to keep of the client of a request."""


def address_and_user_agent(request: ClientRequest) -> dict[str, str]:
    """The address of a client, and the beginning of its user agent: a ``client_info``.

    Both are personal data, and the user agent is what the client says of itself.
    """
    agent = request.header("User-Agent")
    known = {"address": request.address, "user_agent": agent and agent[:LONGEST]}
    return {name: value for name, value in known.items() if value}


def checked_client_info(client_info: ClientInfo | None) -> ClientInfo | None:
    """Check the argument.

    Raises:
        InvalidArgumentType: If it cannot be called.
    """
    if client_info is not None and not callable(client_info):
        raise InvalidArgumentType(f"client_info must be a function or None, not {type(client_info).__name__}")
    return client_info


def names_for(session: Session, over: SessionInfo | None) -> dict[str, Any]:
    """The labels and the client to write with a session, as far as they differ from those that it has.

    Args:
        session: The session.
        over: What is written over; None for a new session.
    """
    options: dict[str, Any] = {}
    if session.labels_changed or (over is None and session.labels):
        options["labels"] = session.labels
    if session.state.client is not None:
        client = session.state.client() or None
        if client != (over and over.client):
            options["client"] = client
    return options


def address_of(scope: Any) -> str | None:
    """The address of the client of an ASGI request."""
    client = scope.get("client")
    return None if client is None else str(client[0])
