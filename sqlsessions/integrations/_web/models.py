"""Parts of a session as models: how they are stored, and taken over from the application."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from typing import Any, Generic, Literal, Protocol, TypeVar

from ...errors import InvalidArgument, SessionModelMismatch
from .session import Session
from .sources import Source

M = TypeVar("M")
R = TypeVar("R")
logger = logging.getLogger("sqlsessions")


class Codec(Protocol):
    """Converts a model to and from types that JSON has."""

    def load(self, data: Any) -> Any:
        """The model.

        Raises:
            ValueError: If it does not accept the data.
        """

    def dump(self, value: Any) -> Any:
        """Its data.

        Raises:
            InvalidSessionData: If JSON has no such data.
        """


class StoredModel(Generic[M]):
    """A model that is stored under a key of a session; the frameworks' `SessionModel` inherit from it."""

    def __init__(
        self, model: type[M], key: str | None = None, *, invalid: Literal["raise", "defaults"] = "raise"
    ) -> None:
        if invalid not in ("raise", "defaults"):
            raise InvalidArgument(f"invalid must be 'raise' or 'defaults', not {invalid!r}")
        self._raises = invalid == "raise"
        self.model = model
        self.key = model.__name__ if key is None else key
        self._codec = self._codec_of(model)
        try:
            model()
        except (TypeError, ValueError) as error:
            raise InvalidArgument(
                f"every field of {model.__name__} needs a default: a new session has no data"
            ) from error

    @staticmethod
    def _codec_of(model: type[Any]) -> Codec:
        """The codec of pydantic's models and dataclasses; msgspec's of Structs and any other dataclass."""
        if hasattr(model, "__pydantic_validator__"):
            return pydantic_codec(model)
        return msgspec_codec(model)

    def _give(self, session: Session) -> M:
        """The model of a session, which is loaded; what changes in it is written with the session.

        Raises:
            SessionModelMismatch: If it does not accept the session's data, unless set otherwise.
        """
        session.mark_accessed()
        value, accepted = self._of(session)
        session.state.sources += (Source(self.key, lambda: self._codec.dump(value), merges=accepted),)
        return value

    def _changing(self, function: Callable[[M], Any]) -> Callable[[dict[str, Any]], Awaitable[Any]]:
        """A function of the data that changes the model in it by a function, which may be async."""

        async def changing(data: dict[str, Any]) -> Any:
            value, _ = self._of(data)
            result = function(value)
            if isawaitable(result):
                result = await result
            data[self.key] = self._codec.dump(value)
            return result

        return changing

    def _changing_blocking(self, function: Callable[[M], R]) -> Callable[[dict[str, Any]], R]:
        """`_changing` for code that cannot await."""

        def changing(data: dict[str, Any]) -> R:
            value, _ = self._of(data)
            result = function(value)
            data[self.key] = self._codec.dump(value)
            return result

        return changing

    def _of(self, data: Mapping[str, Any]) -> tuple[M, bool]:
        """The model, and whether it accepts its data, if there is any."""
        if self.key not in data:
            return self.model(), True
        try:
            return self._codec.load(data[self.key]), True
        except ValueError:
            pass  # its text quotes the data
        if self._raises:
            raise SessionModelMismatch(self.model.__name__, self.key)
        logger.warning("a session's data is not a valid %s and is ignored", self.model.__name__)
        return self.model(), False


def pydantic_codec(model: type[Any]) -> Codec:
    """The codec of what pydantic validates."""
    from .pydantic_codec import PydanticCodec  # noqa: PLC0415 (installed if there is such a model)

    return PydanticCodec(model)


def msgspec_codec(model: type[Any]) -> Codec:
    """The codec of Structs and dataclasses.

    Raises:
        InvalidArgument: If msgspec is not installed.
    """
    try:
        return MsgspecCodec(model)
    except ModuleNotFoundError as error:
        raise InvalidArgument(
            f"{model.__name__} needs msgspec, or pydantic's own dataclass decorator: pip install msgspec"
        ) from error


class MsgspecCodec:
    """Structs and dataclasses, by msgspec."""

    def __init__(self, model: type[Any]) -> None:
        import msgspec  # noqa: PLC0415 (not a need of every framework)

        self._model = model
        self._msgspec = msgspec

    def load(self, data: Any) -> Any:
        """The model."""
        return self._msgspec.convert(data, self._model, str_keys=True)

    def dump(self, value: Any) -> Any:
        """Its data."""
        return self._msgspec.to_builtins(value, str_keys=True)
