"""Sessions for Flask: `SqlSessionInterface`, and helpers for the session of the current request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import InvalidArgument, StorageUnavailable, missing

try:
    import flask
except ModuleNotFoundError as error:
    raise missing(error, "sqlsessions.integrations.flask", "flask") from error
from flask.sessions import SessionInterface

from ..info import SessionInfo
from ..storage import Duration
from ._web.changing import Data, apply_blocking
from ._web.clients import ClientRequest, address_and_user_agent
from ._web.cookies import Cookie
from ._web.models import StoredModel
from ._web.portal import run
from ._web.session import Session
from ._web.transports import Bearer
from ._web.werkzeug import Interface, SqlSession

__all__ = [
    "Bearer",
    "ClientRequest",
    "Cookie",
    "SessionModel",
    "SqlSession",
    "SqlSessionInterface",
    "address_and_user_agent",
    "change",
    "current_session",
    "end_other_sessions",
    "end_session",
    "list_sessions",
    "require_fresh",
    "save",
]

M = TypeVar("M")
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


def current_session() -> SqlSession:
    """``flask.session``, typed: the session of the current request, read when it is first accessed.

    Raises:
        InvalidArgument: If the application has another session interface.
    """
    return _session()


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


class SessionModel(StoredModel[M]):
    """Part of the session as a model: ``carts()``, where ``carts = SessionModel(Cart)``.

    Changes of it are written to the session with the response, merged field by field with those of other requests.

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

    def __call__(self) -> M:
        """The model of the current request.

        Raises:
            SessionModelMismatch: If it does not accept the session's data, unless set otherwise.
            ServiceUnavailable: If the session cannot be read; or `StorageUnavailable`, as configured.
        """
        return self._give(_current())

    def change(self, function: Callable[[M], R]) -> R:
        """Change the model as it is stored now: `change`, of which the function gets the model.

        Models that were given before stay as they are.

        Raises:
            SessionModelMismatch: If the model does not accept the session's data, unless set otherwise.
            SessionNotFound: As `change`.
            ServiceUnavailable: As `change`.
        """
        return change(self._changing_blocking(function))


def require_fresh(max_age: Duration) -> SqlSession:
    """The session of the current request, for what needs a recent login, such as a change of the password.

    Otherwise the answer has status 401, and says why as ``application/problem+json`` (RFC 9457). Show a form for the
    password, and call ``session.reauthenticated()``.

    Args:
        max_age: The most seconds since the login, or a timedelta.

    Raises:
        Unauthorized: If the user did not log in since, or nobody is logged in; its cause is
            `ReauthenticationRequired`.
        ServiceUnavailable: If the session cannot be read; or `StorageUnavailable`, as configured.
        InvalidArgument: If ``max_age`` is not above 0 and at most 1,000 years.
        InvalidArgumentType: If it is not a duration.
    """
    session = _current()
    Interface.require_fresh(session, max_age)
    return session


def list_sessions() -> list[SessionInfo]:
    """The live sessions of this session's subject, the newest first; none if it has no subject."""
    session = _current()

    async def listed() -> list[SessionInfo]:
        return [info async for info in session.manager.listing.of(session)]

    return run(listed())


def end_session(key: str) -> bool:
    """End a session of the same subject by its `SessionInfo.key`; whether there was one."""
    session = _current()
    return run(session.manager.listing.end(session, key))


def end_other_sessions() -> int:
    """End all sessions of the same subject but this one; the number of them."""
    session = _current()
    return run(session.manager.listing.end_others(session))


def _current() -> SqlSession:
    session = _session()
    session.ensure_loaded()
    return session


def _session() -> SqlSession:
    session = flask.session._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    if not isinstance(session, SqlSession):
        raise InvalidArgument("the application's session_interface is not sqlsessions' SqlSessionInterface")
    return session
