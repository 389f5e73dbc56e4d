"""Sessions as typed models, for Litestar's dependencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from litestar.types import Scope

from ._web.connections import ConnectionModel, load

M = TypeVar("M")


class SessionModel(ConnectionModel[M]):
    """Part of a session as a model, for dependencies: ``Provide(SessionModel(Cart))`` gives a ``Cart``.

    Changes of it are written to the session when the response begins, merged field by field with those of other
    requests.

    Whatever the model accepts comes back equal. Fields are stored by their own names, whatever their aliases.

    Args:
        model: A pydantic model, a msgspec Struct, or a dataclass, which msgspec encodes unless it is one of
            pydantic's. Its fields all have defaults.
        key: The key of its data in the session. The name of the model unless set.
        invalid: What becomes of data that the model does not accept, such as that of an earlier version of it:
            ``"raise"`` raises `SessionModelMismatch`; ``"defaults"`` gives a model without data, with a warning,
            which replaces the data once it is changed.

    Raises:
        InvalidArgument: If the model cannot be made without arguments, ``invalid`` is neither, or msgspec is needed
            and not installed.
    """

    async def __call__(self, scope: Scope) -> M:
        """The model of a request or WebSocket, by its ASGI scope.

        Raises:
            SessionModelMismatch: If it does not accept the session's data, unless set otherwise.
            StorageUnavailable: If the session cannot be read.
        """
        return self._give(await load(_Scoped(scope)))


@dataclass
class _Scoped:
    """What has a scope, as a request does."""

    scope: Any


def resolves_in_tasks(scope: Scope) -> bool:
    """Whether Litestar resolves dependencies of the handler in tasks of their own."""
    handler = scope.get("route_handler")
    return handler is not None and len(handler.resolve_dependencies()) > 1
