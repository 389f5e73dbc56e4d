"""The part of the session interfaces that Flask and Quart share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from flask.sessions import SessionMixin, session_json_serializer
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.sansio.response import Response

from ...errors import InvalidArgument, StorageUnavailable
from ...storage import Duration, ManagedSessionStorage
from .cookies import Cookie
from .manager import SessionManager
from .queues import RequestQueue, request_queue
from .serializers import Serializer, checked_serializer
from .session import Session
from .unavailable import HEADERS, RETRY_AFTER, STATUS, TEXT, Unavailable, is_raised, log

PERMANENT = "_permanent"  # Flask's key for `SqlSession.permanent`


class SqlSession(Session, SessionMixin):
    """A request's session: a dict, with the attributes that Flask's sessions have.

    Attributes:
        manager: Loads and writes it.
        https: Whether the request came by https.
        queue: Where the request waits for the others of its session; None if it does not, or not any more.
    """

    manager: SessionManager
    https: bool
    queue: RequestQueue | None = None

    async def read(self) -> None:
        """Read it, unless that was done; for integrations.

        Raises:
            StorageUnavailable: If it cannot be read.
        """
        if self.queue is not None:
            await self.queue.enter(self)
        await self.manager.load(self)

    def leave(self) -> None:
        """Let the other requests have it, once it is written; for integrations."""
        if self.queue is not None:
            self.queue.leave(self)
            self.queue = None

    @property
    def new(self) -> bool:  # type: ignore[override]
        """Whether the storage has no such session yet."""
        return self.is_new

    @property
    def permanent(self) -> bool:
        """Whether the cookie outlasts the browser; False unless set."""
        return bool(self.get(PERMANENT, False))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        if self.permanent != bool(value):
            self.state.cookie_requested = True
            self[PERMANENT] = bool(value)


class TaggedSerializer:
    """JSON with Flask's tags, which preserve tuples, bytes, dates, UUIDs and markup."""

    def dumps(self, value: dict[str, Any], /) -> bytes:
        return session_json_serializer.dumps(value).encode()

    def loads(self, data: bytes, /) -> Any:
        return session_json_serializer.loads(data.decode())


class Interface:
    """A session interface: its settings, and the managers that follow from an application's configuration.

    Args:
        storage: The storage of the sessions; it is not closed.
        cookie_name: Name of the cookie; None is SESSION_COOKIE_NAME. The prefix ``__Host-`` is the safest.
        domain: Domain of the cookie; None is SESSION_COOKIE_DOMAIN.
        path: Path of the cookie; None is SESSION_COOKIE_PATH, or else APPLICATION_ROOT.
        secure: Whether the cookie is ``Secure``: True, False, or None, the default: with
            SESSION_COOKIE_SECURE always, else for requests that came by https.
        samesite: ``"Lax"``, ``"Strict"`` or ``"None"``; None is SESSION_COOKIE_SAMESITE, or else ``"Lax"``.
        partitioned: Whether the cookie is partitioned by top-level site (CHIPS); None is
            SESSION_COOKIE_PARTITIONED.
        max_age: Seconds after its last use that a session ends, and age of the cookie if it is
            `permanent`; None is PERMANENT_SESSION_LIFETIME.
        absolute_timeout: Seconds after its creation that a session ends however much it is used; None
            leaves that to the storage.
        serializer: Encodes the data: an object with ``dumps`` and ``loads``. JSON with Flask's tags
            unless set.
        rotate_on_login: Whether a session whose subject changes gets a new id.
        unavailable: How requests are answered while the storage is unavailable: ``"503"``, or ``"raise"``
            to raise `StorageUnavailable`.
        serialize: Whether the HTTP requests of one session wait for each other in this process, from their
            first access to the session until it is written with the response; needs ``init_app``. True waits
            for up to 10 seconds, a number for so many; then the session counts as unavailable.

    Raises:
        InvalidArgument: If an argument is out of its range, or browsers would reject such a cookie; for
            the application's configuration, by ``init_app`` or else by its first request.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        storage: ManagedSessionStorage,
        *,
        cookie_name: str | None = None,
        domain: str | None = None,
        path: str | None = None,
        secure: bool | None = None,
        samesite: str | None = None,
        partitioned: bool | None = None,
        max_age: Duration | None = None,
        absolute_timeout: Duration | None = None,
        serializer: Serializer | None = None,
        rotate_on_login: bool = True,
        unavailable: Unavailable = "503",
        serialize: bool | Duration = False,
    ) -> None:
        self._storage = storage
        self._cookie = {
            "SESSION_COOKIE_NAME": cookie_name,
            "SESSION_COOKIE_DOMAIN": domain,
            "SESSION_COOKIE_PATH": path,
            "SESSION_COOKIE_SAMESITE": samesite,
            "SESSION_COOKIE_PARTITIONED": partitioned,
            "PERMANENT_SESSION_LIFETIME": max_age,
        }
        self._secure = secure
        self._settings: dict[str, Any] = {
            "absolute_timeout": absolute_timeout,
            "serializer": TaggedSerializer() if serializer is None else checked_serializer(serializer),
            "rotate_on_login": rotate_on_login,
        }
        self._raises = is_raised(unavailable)
        self._queue = request_queue(serialize)
        self._managers: dict[tuple[Cookie, Duration, bool], SessionManager] = {}
        self.manager_of({"SESSION_COOKIE_NAME": "session", "PERMANENT_SESSION_LIFETIME": timedelta(days=31)})

    def manager_of(self, config: dict[str, Any]) -> SessionManager:
        """The manager for the configuration of an application."""
        if not config.get("SESSION_COOKIE_HTTPONLY", True):
            raise InvalidArgument("SESSION_COOKIE_HTTPONLY must be True: scripts do not need a session id")

        def setting(name: str) -> Any:
            given = self._cookie[name]
            return config.get(name) if given is None else given

        secure = self._secure
        if secure is None and config.get("SESSION_COOKIE_SECURE"):
            secure = True
        cookie = Cookie(
            name=setting("SESSION_COOKIE_NAME"),
            path=setting("SESSION_COOKIE_PATH") or config.get("APPLICATION_ROOT") or "/",
            domain=setting("SESSION_COOKIE_DOMAIN") or None,
            same_site=setting("SESSION_COOKIE_SAMESITE") or "lax",
            secure=secure,
            partitioned=bool(setting("SESSION_COOKIE_PARTITIONED")),
        )
        lifetime = setting("PERMANENT_SESSION_LIFETIME")
        refresh = bool(config.get("SESSION_REFRESH_EACH_REQUEST", True))
        key = cookie, lifetime, refresh
        if key not in self._managers:
            self._managers[key] = SessionManager(
                self._storage,
                cookie,
                max_age=lifetime,
                refresh=refresh,
                is_empty=_is_empty,
                is_persistent=_is_permanent,
                **self._settings,
            )
        return self._managers[key]

    def session_of(self, app: Any, request: Any, load: Callable[[Session], None]) -> SqlSession:
        """The session of a request; nothing is read yet."""
        manager = self.manager_of(app.config)
        session = manager.open_as(SqlSession, request.cookies.get(manager.cookie.name), load)
        session.manager = manager
        session.https = request.is_secure
        session.queue = self._queue
        return session

    def is_null_session(self, obj: object) -> bool:
        """Whether an object is no session; the frameworks' own way to look would read it."""
        return type(obj) is not SqlSession

    def add_headers(self, session: SqlSession, response: Response) -> None:
        """Add the headers that the session needs to a response."""
        headers = session.manager.headers_for(
            session,
            https=session.https,
            vary=",".join(response.headers.getlist("Vary")),
            has_cache_control="Cache-Control" in response.headers,
        )
        for name, value in headers:
            if name == "Vary":
                response.vary.add(value)  # into the one header that later changes of `vary` replace
            else:
                response.headers.add(name, value)

    def unavailable(self, error: StorageUnavailable) -> Exception:
        """The exception for an access to a session that cannot be read."""
        if self._raises:
            return error
        log(error)
        return ServiceUnavailable(TEXT, retry_after=RETRY_AFTER)

    def refuse(self, response: Any, error: StorageUnavailable) -> None:
        """Turn a response into a 503, as nothing was saved.

        It is too late to raise one: at this point the frameworks answer any exception with a 500.
        """
        if self._raises:
            raise error
        log(error)
        response.headers.clear()
        response.headers.update(HEADERS)
        response.set_data(TEXT)
        response.status_code = STATUS


def _is_empty(data: dict[str, Any]) -> bool:
    """Whether a session holds nothing, or only whether it is permanent."""
    return all(key == PERMANENT for key in dict.__iter__(data))


def _is_permanent(session: Session) -> bool:
    return bool(dict.get(session, PERMANENT))
