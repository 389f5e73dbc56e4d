"""Sessions for FastAPI: Starlette's middleware, dependencies, and sessions as typed models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from ..errors import missing

try:
    from fastapi import Depends
except ModuleNotFoundError as error:
    raise missing(error, "sqlsessions.integrations.fastapi", "fastapi") from error
from starlette.requests import HTTPConnection

from .._validation import required_duration
from ..storage import Duration
from ._fastapi_openapi import NeedsSession, SessionMiddleware, document_sessions
from ._web.clients import ClientRequest, address_and_user_agent
from ._web.connections import ConnectionModel
from ._web.models import Codec, msgspec_codec, pydantic_codec
from .starlette import (
    Bearer,
    Cookie,
    Session,
    alive,
    change,
    current_session,
    end_other_sessions,
    end_session,
    list_sessions,
    load,
    refresh,
    require_fresh,
    save,
)

__all__ = [
    "Bearer",
    "ClientRequest",
    "Cookie",
    "CurrentSession",
    "Session",
    "SessionMiddleware",
    "SessionModel",
    "address_and_user_agent",
    "alive",
    "change",
    "current_session",
    "document_sessions",
    "end_other_sessions",
    "end_session",
    "fresh",
    "get_session",
    "list_sessions",
    "load",
    "refresh",
    "require_fresh",
    "save",
]

M = TypeVar("M")


class _GetSession(NeedsSession):
    async def __call__(self, connection: HTTPConnection) -> Session:
        session = await load(connection)
        session.mark_accessed()
        return session


get_session: Callable[[HTTPConnection], Awaitable[Session]] = _GetSession()
"""A dependency: the session of a request or WebSocket, loaded.

Raises:
    StorageUnavailable: If it cannot be read.
"""

CurrentSession = Annotated[Session, Depends(get_session)]
"""For parameters: ``async def page(session: CurrentSession)``."""


def fresh(max_age: Duration) -> Callable[[HTTPConnection], Awaitable[Session]]:
    """A dependency: the session of a user who logged in recently, as ``Depends(fresh(300))``.

    Otherwise the answer has status 401, as with `require_fresh`.

    Args:
        max_age: The most seconds since the login, or a timedelta.

    Raises:
        InvalidArgument: If it is not above 0 and at most 1,000 years.
        InvalidArgumentType: If it is not a duration.
    """
    required_duration("max_age", max_age)
    return _Fresh(max_age)


class _Fresh(NeedsSession):
    def __init__(self, max_age: Duration) -> None:
        self._max_age = max_age

    async def __call__(self, connection: HTTPConnection) -> Session:
        return await require_fresh(connection, self._max_age)


class SessionModel(ConnectionModel[M]):
    """A dependency that gives part of a session as a model, and writes back what changed in it.

    ``Annotated[Cart, Depends(SessionModel(Cart))]`` gives a ``Cart``; changes of it are written to the
    session when the response begins, merged field by field with those of other requests.

    Whatever the model accepts comes back equal, such as secrets, sets, dates and keys that are numbers. Fields
    are stored by their own names, whatever their aliases. Of pydantic's fields, those with ``exclude=True`` are
    not stored, and bytes that are not UTF-8 need ``ser_json_bytes`` and ``val_json_bytes`` to be ``"base64"``.

    Args:
        model: A pydantic model, a dataclass or a msgspec Struct, whose fields all have defaults.
        key: The key of its data in the session. The name of the model unless set.
        invalid: What becomes of data that the model does not accept, such as that of an earlier version of it:
            ``"raise"`` raises `SessionModelMismatch`; ``"defaults"`` gives a model without data, with a warning,
            which replaces the data once it is changed.

    Raises:
        InvalidArgument: If the model cannot be made without arguments, or ``invalid`` is neither.
    """

    @staticmethod
    def _codec_of(model: type[Any]) -> Codec:
        return msgspec_codec(model) if hasattr(model, "__struct_fields__") else pydantic_codec(model)

    async def __call__(self, connection: HTTPConnection) -> M:
        """The model of a request or WebSocket.

        Raises:
            SessionModelMismatch: If it does not accept the session's data, unless set otherwise.
            StorageUnavailable: If the session cannot be read.
        """
        return self._give(await load(connection))
