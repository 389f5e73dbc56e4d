"""Reads the session of a request to Quart when a plain call accesses it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from quart.wrappers.base import BaseRequestWebsocket

from ..errors import StorageUnavailable
from ._web.endings import write_last
from ._web.greenlets import GreenletBridge
from ._web.session import Session
from ._web.werkzeug import Interface, SqlSession

R = TypeVar("R")

LOADER = "sqlsessions.loader"  # the key of a request's scope


class Loader:
    """Reads the session of one request when a plain call accesses it.

    Attributes:
        interface: The session interface of the application.
        session: The session, once it was opened.
        failure: Why it could not be read.
        lazy: Whether the handler of the request runs within `run`.
    """

    interface: Interface
    session: SqlSession | None = None
    failure: StorageUnavailable | None = None

    def __init__(self) -> None:
        self._bridge = GreenletBridge("`await load()` before that")
        self.lazy = False

    async def run(self, handle: Callable[[Any], Awaitable[R]], request: Any) -> R:
        self.lazy = True
        result: R = await self._bridge.run(handle, request)
        return result

    def __call__(self, session: Session) -> None:
        assert isinstance(session, SqlSession)
        if self.failure is None:
            try:
                self._bridge.wait(session.manager, session.read)
            except StorageUnavailable as error:
                self.failure = error
        if self.failure is not None:
            raise self.interface.unavailable(self.failure) from self.failure


def with_loader(handle: Callable[[Any], Coroutine[Any, Any, R]]) -> Callable[[Any], Coroutine[Any, Any, R]]:
    """Handle requests so that their sessions can be read when they are accessed."""

    async def handling(request: BaseRequestWebsocket) -> R:
        loader = cast(Any, request.scope)[LOADER] = Loader()
        try:
            return await loader.run(handle, request)
        except (Exception, asyncio.CancelledError):
            session = loader.session
            if session is not None and request.scope["type"] == "websocket":
                await write_last(session.manager.commit(session))
            raise
        finally:
            if loader.session is not None:
                loader.session.leave()

    return handling
