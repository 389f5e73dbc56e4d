"""Sessions for Flask: `SqlSessionInterface`, and helpers for the session of the current request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import flask
from flask.sessions import SessionInterface

from ..errors import InvalidArgument, StorageUnavailable
from ..info import SessionInfo
from ._web.changing import Data, apply_blocking
from ._web.portal import run
from ._web.session import Session
from ._web.werkzeug import Interface, SqlSession

__all__ = [
    "SqlSession",
    "SqlSessionInterface",
    "change",
    "end_other_sessions",
    "end_session",
    "list_sessions",
    "save",
]

R = TypeVar("R")

_EXTENSION = "sqlsessions"  # the key of the interface, and of the session in the environment of a request


class SqlSessionInterface(Interface, SessionInterface):
    """Stores the sessions of an application: ``app.session_interface = SqlSessionInterface(storage)``.

    ``flask.session`` is then a `SqlSession`: a dict that is read when first accessed, and written, if it
    changed, with the response. A request that does not access it makes no call of the storage, which runs
    in an event loop of its own, in a thread that all requests of the process share.

    For its arguments see `Interface`, which Flask and Quart share.
    """

    def init_app(self, app: flask.Flask) -> None:
        """Make this the session interface of an application.

        Raises:
            InvalidArgument: If browsers would reject the cookie that the application configures.
        """
        self.manager_of(app.config)
        app.session_interface = self
        app.extensions[_EXTENSION] = self
        app.teardown_request(_leave)

    def open_session(self, app: flask.Flask, request: flask.Request) -> SqlSession:
        """The session of a request; nothing is read yet."""
        session = self.session_of(app, request, self._load)
        if session.queue is not None:
            if app.extensions.get(_EXTENSION) is not self:
                raise InvalidArgument("serialize needs SqlSessionInterface(...).init_app(app)")
            request.environ[_EXTENSION] = session
        return session

    def save_session(self, app: flask.Flask, session: Any, response: flask.Response) -> None:  # noqa: ARG002
        """Write what changed, and add the headers that the session needs."""
        if not isinstance(session, SqlSession):
            return
        if not session.loaded or not session.accessed:
            session.state.answered = True  # a stream may access it yet
            return
        try:
            run(session.manager.commit(session))
        except StorageUnavailable as error:
            self.refuse(response, error)
        self.add_headers(session, response)
        session.leave()

    def _load(self, session: Session) -> None:
        assert isinstance(session, SqlSession)
        try:
            run(session.read())
        except StorageUnavailable as error:
            raise self.unavailable(error) from error


def _leave(_error: BaseException | None) -> None:
    """Let the next request of the session in, also after an error for which there is no response."""
    session = flask.request.environ.pop(_EXTENSION, None)
    if isinstance(session, SqlSession):
        session.leave()


def save() -> None:
    """Write the session now, such as before a response that is streamed.

    Raises:
        StorageUnavailable: If it cannot be written.
    """
    session = _current()
    run(session.manager.commit(session))


def change(function: Callable[[Data], R]) -> R:
    """Change the session as it is stored now, such as a counter that parallel requests increase.

    The function changes a dict that has the data as it is stored. If another request writes the session
    meanwhile, it is called again, so that it must do nothing else; of its calls one takes effect. What this
    request changed before is written first. Without a session, one is begun.

    Returns:
        What the function returned.

    Raises:
        SessionNotFound: If the session ended meanwhile, or another user has it; nothing was changed.
        ServiceUnavailable: If it cannot be read or written, or others use it for more than ten seconds; or
            `StorageUnavailable`, as configured.
        InvalidArgument: If it is called by such a function.
    """
    fresh = not _session().loaded
    session = _current()
    try:
        return apply_blocking(session.manager.changing.attempts(session, fresh=fresh), function)
    except StorageUnavailable as error:
        interface = flask.current_app.session_interface
        assert isinstance(interface, Interface)
        raise interface.unavailable(error) from error


def list_sessions() -> list[SessionInfo]:
    """The live sessions of this session's subject, the newest first.

    Raises:
        InvalidArgument: If it has no subject.
    """
    session = _current()

    async def listed() -> list[SessionInfo]:
        return [info async for info in session.manager.listed(session)]

    return run(listed())


def end_session(key: str) -> bool:
    """End a session of the same subject by its `SessionInfo.key`; whether there was one."""
    session = _current()
    return run(session.manager.end_listed(session, key))


def end_other_sessions() -> int:
    """End all sessions of the same subject but this one; the number of them."""
    session = _current()
    return run(session.manager.end_others(session))


def _current() -> SqlSession:
    session = _session()
    session.ensure_loaded()
    return session


def _session() -> SqlSession:
    session = flask.session._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    if not isinstance(session, SqlSession):
        raise InvalidArgument("the application's session_interface is not sqlsessions' SqlSessionInterface")
    return session
