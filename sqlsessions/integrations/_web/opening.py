"""Opening the session of a request by the headers that it came with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from .clients import ClientRequest
from .cookies import cookie_values
from .manager import SessionManager
from .session import Session
from .transports import Headers

S = TypeVar("S", bound=Session)


def open_from(
    manager: SessionManager,
    kind: type[S],
    headers: Headers,
    load: Callable[[Session], None] | None = None,
    *,
    address: Callable[[], str | None],
) -> S:
    """The session of a request, as `SessionManager.open_as`; nothing is read yet.

    Args:
        manager: The manager of the session.
        kind: The class of the session.
        headers: Gives the headers of the request.
        load: Loads a session that is accessed, or raises.
        address: Gives the client's address.
    """
    if manager.transports is None:
        session = manager.open_as(kind, *cookie_values(headers("Cookie"), manager.cookie.name), load=load)
    else:
        values, bearer = manager.transports.presented(headers, manager.cookie.name, manager.parse_id)
        session = manager.open_as(kind, *values, load=load)
        session.state.bearer = bearer
    if manager.client_info is not None:
        session.state.client = partial(manager.client_info, ClientRequest(headers, address))
    return session
