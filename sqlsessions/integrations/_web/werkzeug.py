"""What the session interfaces of Flask and Quart have in common."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal, cast

from flask.sessions import SessionMixin, session_json_serializer
from werkzeug.exceptions import ServiceUnavailable
from werkzeug.sansio.response import Response

from ...errors import InvalidArgument, StorageUnavailable
from ...storage import Duration, ManagedSessionStorage
from .changes import Changes
from .cookies import Cookie, SameSite, presented
from .manager import SessionManager
from .serializers import Serializer, checked_serializer
from .session import Session

logger = logging.getLogger("sqlsessions")

PERMANENT = "_permanent"  # the key under which Flask keeps that
UNAVAILABLE = "The session storage is unavailable. Try again later."

Unavailable = Literal["503", "raise"]


class SqlSession(Session, SessionMixin):
    """A request's session: a dict, with the attributes that Flask's sessions have.

    Attributes:
        manager: Loads and writes it.
        https: Whether the request came by https.
        permanence_changed: Whether the request changed `permanent`.
    """

    manager: Manager
    https: bool
    permanence_changed = False

    @property
    def new(self) -> bool:  # type: ignore[override]
        """Whether the storage has no such session yet."""
        return self.is_new

    @property
    def permanent(self) -> bool:
        """Whether the browser keeps the cookie when it is closed; False unless set."""
        return bool(self.get(PERMANENT, False))

    @permanent.setter
    def permanent(self, value: bool) -> None:
        if self.permanent != bool(value):
            self.permanence_changed = True
            self[PERMANENT] = bool(value)

    def ends(self) -> bool:
        """Whether nothing is left of it but how long it was to be kept."""
        bare = all(key == PERMANENT for key in dict.__iter__(self))
        return bare and not self.subject and (self.info is None or self.state.cleared)


class Manager(SessionManager):
    """Keeps cookies as `permanent` says.

    Args:
        storage: Where sessions are.
        cookie: How browsers are told.
        refresh: Whether a request that only reads extends the session.
        settings: As for `SessionManager`.
    """

    def __init__(
        self, storage: ManagedSessionStorage, cookie: Cookie, *, refresh: bool, **settings: Any
    ) -> None:
        super().__init__(storage, cookie, **settings)
        self.cookie = cookie
        self._refresh = refresh

    def open(self, value: str | None, load: Callable[[Session], None] | None = None) -> SqlSession:
        session = SqlSession.lazy(presented(value), load)
        session.state.stale = value is not None and session.loaded
        session.manager = self
        return session

    async def commit(self, session: Session) -> None:
        if session.loaded and isinstance(session, SqlSession) and session.ends():
            session.fill({})
        await super().commit(session)

    async def _merge(self, session: Session, changes: Changes, payload: bytes) -> None:
        await super()._merge(session, changes, payload)
        if isinstance(session, SqlSession) and session.permanence_changed:
            session.state.cookie_due = True

    async def _touch(self, session: Session) -> None:
        if self._refresh:
            await super()._touch(session)

    def _persistent(self, session: Session) -> bool:
        browser = session.state.browser
        return bool(session.plain().get(PERMANENT)) if browser is None else not browser


class TaggedSerializer:
    """JSON as Flask tags it, which keeps tuples, bytes, dates, UUIDs and markup."""

    def dumps(self, value: dict[str, Any], /) -> bytes:
        return session_json_serializer.dumps(value).encode()

    def loads(self, data: bytes, /) -> Any:
        return session_json_serializer.loads(data.decode())


class Interface:
    """The settings of a session interface, and what follows from them for an application.

    Args:
        storage: Where sessions are; it is not closed.
        cookie_name: Name of the cookie; None is SESSION_COOKIE_NAME. The prefix ``__Host-`` is the safest.
        domain: Domain of the cookie; None is SESSION_COOKIE_DOMAIN.
        path: Path of the cookie; None is SESSION_COOKIE_PATH, or else APPLICATION_ROOT.
        secure: Whether the cookie is ``Secure``: True, False, or None, the default: with
            SESSION_COOKIE_SECURE always, else wherever the request came by https.
        samesite: ``"Lax"``, ``"Strict"`` or ``"None"``; None is SESSION_COOKIE_SAMESITE, or else ``"Lax"``.
        partitioned: Whether the cookie is kept apart for each top-level site; None is
            SESSION_COOKIE_PARTITIONED.
        max_age: Seconds after its last use that a session ends, and age of the cookie of one that is
            `permanent`; None is PERMANENT_SESSION_LIFETIME.
        absolute_timeout: Seconds after its creation that a session ends however much it is used; None
            leaves that to the storage.
        serializer: Turns data into bytes: an object with ``dumps`` and ``loads``. JSON with Flask's tags
            unless set.
        rotate_on_login: Whether a session whose subject changes gets a new id.
        unavailable: What a client is told while the storage is: ``"503"``, or ``"raise"`` to have
            `StorageUnavailable` raised.

    Raises:
        InvalidArgument: If an argument is out of its range, or no browser would keep such a cookie; for
            what the application configures, by ``init_app`` or else by its first request.
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
    ) -> None:
        if unavailable not in ("503", "raise"):
            raise InvalidArgument(f"unavailable must be '503' or 'raise', not {unavailable!r}")
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
        self._raises = unavailable == "raise"
        self._managers: dict[tuple[Cookie, Duration, bool], Manager] = {}
        self.manager_of({"SESSION_COOKIE_NAME": "session", "PERMANENT_SESSION_LIFETIME": timedelta(days=31)})

    def manager_of(self, config: dict[str, Any]) -> Manager:
        """The manager for the configuration of an application."""
        if not config.get("SESSION_COOKIE_HTTPONLY", True):
            raise InvalidArgument(
                "SESSION_COOKIE_HTTPONLY must be True: a script has no use for a session id"
            )

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
            same_site=cast(SameSite, (setting("SESSION_COOKIE_SAMESITE") or "lax").lower()),
            secure=secure,
            partitioned=bool(setting("SESSION_COOKIE_PARTITIONED")),
        )
        lifetime = setting("PERMANENT_SESSION_LIFETIME")
        refresh = bool(config.get("SESSION_REFRESH_EACH_REQUEST", True))
        key = cookie, lifetime, refresh
        if key not in self._managers:
            self._managers[key] = Manager(
                self._storage, cookie, refresh=refresh, max_age=lifetime, **self._settings
            )
        return self._managers[key]

    def session_of(self, app: Any, request: Any, load: Callable[[Session], None]) -> SqlSession:
        """The session of a request; nothing is read yet."""
        manager = self.manager_of(app.config)
        session = manager.open(request.cookies.get(manager.cookie.name), load)
        session.https = request.is_secure
        return session

    def tell(self, session: SqlSession, response: Response) -> None:
        """Put into a response what the browser and caches need to know."""
        cookie = session.manager.set_cookie(session, https=session.https)
        if cookie is not None:
            response.headers.add("Set-Cookie", cookie)
        if cookie is not None or session.accessed:
            response.headers.setdefault("Cache-Control", "private" if cookie is None else "no-store")
            response.vary.add("Cookie")

    def unavailable(self, error: StorageUnavailable) -> Exception:
        """What to raise where the application looks at the session."""
        if self._raises:
            return error
        logger.error("a session could not be read: %s", error)
        return ServiceUnavailable(UNAVAILABLE, retry_after=1)

    def refuse(self, response: Any, error: StorageUnavailable) -> None:
        """Turn a response into one that says that nothing was saved.

        It is too late to raise a 503: the frameworks make a 500 of whatever is raised then.
        """
        if self._raises:
            raise error
        logger.error("a session could not be written: %s", error)
        response.headers.clear()
        response.headers["Retry-After"] = "1"
        response.headers["Content-Type"] = "text/plain; charset=utf-8"
        response.set_data(UNAVAILABLE)
        response.status_code = 503
