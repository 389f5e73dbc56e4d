"""Sessions for FastAPI: Starlette's middleware, dependencies, and sessions as typed models."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Annotated, Any, Generic, TypeVar, overload

from fastapi import Depends
from pydantic import TypeAdapter, ValidationError
from starlette.requests import HTTPConnection

from ..errors import InvalidArgument
from ._web.sources import Source
from .starlette import (
    Session,
    SessionMiddleware,
    change,
    end_other_sessions,
    end_session,
    list_sessions,
    load,
    save,
)

__all__ = [
    "CurrentSession",
    "Session",
    "SessionMiddleware",
    "SessionModel",
    "change",
    "end_other_sessions",
    "end_session",
    "get_session",
    "list_sessions",
    "load",
    "save",
]

M = TypeVar("M")
R = TypeVar("R")
logger = logging.getLogger("sqlsessions")


async def get_session(connection: HTTPConnection) -> Session:
    """A dependency: the session of a request or WebSocket, loaded.

    Raises:
        StorageUnavailable: If it cannot be read.
    """
    session = await load(connection)
    session.mark_accessed()
    return session


CurrentSession = Annotated[Session, Depends(get_session)]
"""For parameters: ``async def page(session: CurrentSession)``."""


class SessionModel(Generic[M]):
    """A dependency that gives part of a session as a model, and writes back what changed in it.

    ``Annotated[Cart, Depends(SessionModel(Cart))]`` gives a ``Cart``; changes of it are written to the
    session when the response begins, merged field by field with those of other requests. Data that the model
    does not accept is ignored, with a warning.

    Args:
        model: A pydantic model, a dataclass or a msgspec Struct, whose fields all have defaults.
        key: The key of its data in the session. The name of the model unless set.

    Raises:
        InvalidArgument: If the model cannot be made without arguments.
    """

    def __init__(self, model: type[M], key: str | None = None) -> None:
        self.model = model
        self.key = model.__name__ if key is None else key
        self._codec: _Codec = _Struct(model) if hasattr(model, "__struct_fields__") else _Pydantic(model)
        try:
            model()
        except (TypeError, ValueError) as error:
            raise InvalidArgument(
                f"every field of {model.__name__} needs a default: a new session has no data"
            ) from error

    async def __call__(self, connection: HTTPConnection) -> M:
        """The model of a request or WebSocket."""
        session = await get_session(connection)
        value, accepted = self._of(session)
        session.state.sources += (Source(self.key, lambda: self._codec.dump(value), merges=accepted),)
        return value

    @overload
    async def change(self, connection: HTTPConnection, function: Callable[[M], Awaitable[R]]) -> R: ...

    @overload
    async def change(self, connection: HTTPConnection, function: Callable[[M], R]) -> R: ...

    async def change(self, connection: HTTPConnection, function: Callable[[M], Any]) -> Any:
        """Change the model as it is stored now: `change`, of which the function gets the model.

        Models that the dependency gave before stay as they are.
        """

        async def changing(data: dict[str, Any]) -> Any:
            value, _ = self._of(data)
            result = function(value)
            if isawaitable(result):
                result = await result
            data[self.key] = self._codec.dump(value)
            return result

        return await change(connection, changing)

    def _of(self, data: Mapping[str, Any]) -> tuple[M, bool]:
        """The model, and whether it accepts its data, if there is any."""
        if self.key not in data:
            return self.model(), True
        try:
            return self._codec.load(data[self.key]), True
        except ValueError:
            logger.warning("a session's data is not a valid %s and is ignored", self.model.__name__)
            return self.model(), False


class _Codec:
    """Converts a model to and from types that JSON has."""

    def load(self, data: Any) -> Any:
        """The model.

        Raises:
            ValueError: If it does not accept the data.
        """
        raise NotImplementedError

    def dump(self, value: Any) -> Any:
        """Its data."""
        raise NotImplementedError


class _Pydantic(_Codec):
    def __init__(self, model: type[Any]) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(model)

    def load(self, data: Any) -> Any:
        try:
            return self._adapter.validate_python(data)
        except ValidationError as error:
            raise ValueError(len(error.errors())) from None  # its text quotes the data

    def dump(self, value: Any) -> Any:
        return self._adapter.dump_python(value, mode="json")


class _Struct(_Codec):
    def __init__(self, model: type[Any]) -> None:
        import msgspec  # noqa: PLC0415 (installed if there is such a model)

        self._model = model
        self._msgspec = msgspec

    def load(self, data: Any) -> Any:
        return self._msgspec.convert(data, self._model)

    def dump(self, value: Any) -> Any:
        return self._msgspec.to_builtins(value)
