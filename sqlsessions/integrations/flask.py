"""Sessions for Flask: `SqlSessionInterface`, and helpers for the session of the current request."""

from __future__ import annotations

from typing import Any

import flask
from flask.sessions import SessionInterface

from ..errors import InvalidArgument, StorageUnavailable
from ..info import SessionInfo
from ._web.portal import run
from ._web.session import Session
from ._web.werkzeug import Interface, SqlSession

__all__ = ["SqlSession", "SqlSessionInterface", "end_other_sessions", "end_session", "list_sessions", "save"]


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

    def open_session(self, app: flask.Flask, request: flask.Request) -> SqlSession:
        """The session of a request; nothing is read yet."""
        return self.session_of(app, request, self._load)

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

    def _load(self, session: Session) -> None:
        assert isinstance(session, SqlSession)
        try:
            run(session.manager.load(session))
        except StorageUnavailable as error:
            raise self.unavailable(error) from error


def save() -> None:
    """Write the session now, such as before a response that is streamed.

    Raises:
        StorageUnavailable: If it cannot be written.
    """
    session = _current()
    run(session.manager.commit(session))


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
    session = flask.session._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    if not isinstance(session, SqlSession):
        raise InvalidArgument("the application's session_interface is not sqlsessions' SqlSessionInterface")
    session.ensure_loaded()
    return session
