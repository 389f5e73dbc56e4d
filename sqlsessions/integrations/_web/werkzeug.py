"""The part of the session interfaces that Flask and Quart share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from flask.sessions import SessionMixin, session_json_serializer
from werkzeug.exceptions import ServiceUnavailable, Unauthorized
from werkzeug.sansio.response import Response

from ...errors import InvalidArgument, ReauthenticationRequired, StorageUnavailable
from ...records import duration
from ...storage import DEFAULT, Default, Duration, ManagedSessionStorage
from .clients import ClientInfo
from .cookies import DEFAULT_NAME, Cookie, default_name
from .freshness import MEDIA_TYPE, challenge, check_fresh, problem
from .manager import SessionManager
from .opening import open_from
from .proxies import HeaderGetter
from .queues import RequestQueue, request_queue
from .serializers import Serializer, checked_serializer
from .session import Session
from .subject_keys import SubjectKey
from .timeouts import Timeouts
from .transports import Bearer, Transports, checked_transports
from .unavailable import HEADERS, RETRY_AFTER, STATUS, TEXT, Unavailable, is_raised, log

PERMANENT = "_permanent"  # Flask's key for `SqlSession.permanent`
_SETTINGS = {
    "SESSION_COOKIE_NAME": "name",
    "SESSION_COOKIE_DOMAIN": "domain",
    "SESSION_COOKIE_PATH": "path",
    "SESSION_COOKIE_SAMESITE": "same_site",
    "SESSION_COOKIE_PARTITIONED": "partitioned",
}
"""The frameworks' settings of the cookie, with the attributes of ours."""
_MONTH = timedelta(days=31)  # Flask's PERMANENT_SESSION_LIFETIME


class SqlSession(Session, SessionMixin):
    """A request's session: a dict, with the attributes that Flask's sessions have.

    Attributes:
        manager: Loads and writes it.
        https: Whether the request came by https.
        header: Gives the headers of the request.
        queue: Where the request waits for the others of its session; None if it does not, or not any more.
    """

    manager: SessionManager
    https: bool
    header: HeaderGetter
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


class Problem(Unauthorized):
    """An answer with status 401 whose body is JSON."""

    def __init__(self, body: str, headers: dict[str, str]) -> None:
        super().__init__()
        self._body = body
        self._headers = headers

    def get_body(self, *_: Any, **__: Any) -> str:
        return self._body

    def get_headers(self, *_: Any, **__: Any) -> list[tuple[str, str]]:
        return list(self._headers.items())


class Interface:
    """A session interface: its settings, and the managers that follow from an application's configuration.

    Args:
        storage: The storage of the sessions; it is not closed.
        cookie_name: Name of the cookie; None is SESSION_COOKIE_NAME, or if that is not set and
            ``secure=True``, without path and domain, ``"__Host-session"``. The prefix ``__Host-`` is the safest.
        domain: Domain of the cookie; None is SESSION_COOKIE_DOMAIN.
        path: Path of the cookie; None is SESSION_COOKIE_PATH, or else APPLICATION_ROOT.
        secure: Whether the cookie is ``Secure``: True, False, or None, the default: with
            SESSION_COOKIE_SECURE always, else for requests that came by https.
        samesite: ``"Lax"``, ``"Strict"`` or ``"None"``; None is SESSION_COOKIE_SAMESITE, or else ``"Lax"``.
        partitioned: Whether the cookie is partitioned by top-level site (CHIPS); None is
            SESSION_COOKIE_PARTITIONED.
        ttl: Seconds after its last use that a session ends, and age of the cookie if it is `permanent`; None
            is never. DEFAULT is PERMANENT_SESSION_LIFETIME, or the storage's own timeout while that is the
            frameworks' default of 31 days.
        absolute_timeout: Seconds after its creation that a session ends however much it is used; None
            leaves that to the storage.
        serializer: Encodes the data: an object with ``dumps`` and ``loads``. JSON with Flask's tags
            unless set.
        rotate_on_login: Whether a session whose subject changes gets a new id.
        unavailable: How requests are answered while the storage is unavailable: ``"503"``, or ``"raise"``
            to raise `StorageUnavailable`.
        max_age: Deprecated: the former name of ``ttl``, where None was DEFAULT.
        serialize: Whether the HTTP requests of one session wait for each other in this process, from their
            first access to the session until it is written with the response; needs ``init_app``. True waits
            for up to 10 seconds, a number for so many; then the session counts as unavailable.
        transports: Where a request may present its session id, and how a response gives one: `Cookie` and
            `Bearer`, in the order of precedence. The settings of the cookie are then those of its `Cookie`; what
            that leaves unset comes from the configuration, as with the arguments. None is the cookie alone.
        subject_key: For code that logs a user in by a key of the session alone: the key, or a function of the
            data, which names the user or None. A change of it is a login or a logout.
        anonymous_ttl: Idle timeout of sessions without a subject, those of guests; a login gives them ``ttl``.
            DEFAULT is ``ttl``.
        client_info: Gives what to keep of the client with its session, for lists: such as ``address_and_user_agent``, or
            a function of a `ClientRequest`. It is kept whenever the session is written. None, the default, keeps nothing.

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
        ttl: Duration | Default | None = DEFAULT,
        absolute_timeout: Duration | None = None,
        max_age: Duration | None = None,
        serializer: Serializer | None = None,
        rotate_on_login: bool = True,
        unavailable: Unavailable = "503",
        serialize: bool | Duration = False,
        transports: Sequence[Cookie | Bearer] | None = None,
        subject_key: SubjectKey | None = None,
        anonymous_ttl: Duration | Default | None = DEFAULT,
        client_info: ClientInfo | None = None,
    ) -> None:
        self._storage = storage
        self._cookie = {
            "SESSION_COOKIE_NAME": cookie_name,
            "SESSION_COOKIE_DOMAIN": domain,
            "SESSION_COOKIE_PATH": path,
            "SESSION_COOKIE_SAMESITE": samesite,
            "SESSION_COOKIE_PARTITIONED": partitioned,
        }
        self._transports: Transports | None = None
        if transports is not None:
            is_set = secure is not None or any(value is not None for value in self._cookie.values())
            given, self._transports = checked_transports(transports, Cookie(), is_set=is_set)
            secure = given.secure
            self._cookie = {
                setting: None if name in given.unset else getattr(given, name)
                for setting, name in _SETTINGS.items()
            }
        self._timeouts = Timeouts.checked(
            ttl,
            absolute_timeout,
            max_age=DEFAULT if max_age is None else max_age,
            anonymous_ttl=anonymous_ttl,
        )
        self._secure = secure
        self._settings: dict[str, Any] = {
            "serializer": TaggedSerializer() if serializer is None else checked_serializer(serializer),
            "rotate_on_login": rotate_on_login,
            "subject_key": subject_key,
            "client_info": client_info,
        }
        self._raises = is_raised(unavailable)
        self._queue = request_queue(serialize)
        self._managers: dict[tuple[Cookie, Timeouts, bool], SessionManager] = {}
        self.manager_of({"SESSION_COOKIE_NAME": DEFAULT_NAME})

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
        name = setting("SESSION_COOKIE_NAME")
        path = setting("SESSION_COOKIE_PATH") or config.get("APPLICATION_ROOT") or "/"
        domain = setting("SESSION_COOKIE_DOMAIN") or None
        if self._cookie["SESSION_COOKIE_NAME"] is None and name == DEFAULT_NAME:
            # Only by an argument of our own: Flask's setting is on in applications that know the name.
            name = default_name(name, path=path, domain=domain, secure=self._secure)
        cookie = Cookie(
            name=name,
            path=path,
            domain=domain,
            same_site=setting("SESSION_COOKIE_SAMESITE") or "lax",
            secure=secure,
            partitioned=bool(setting("SESSION_COOKIE_PARTITIONED")),
        )
        timeouts, lifetime = self._timeouts, config.get("PERMANENT_SESSION_LIFETIME")
        if timeouts.idle is DEFAULT and lifetime not in (None, _MONTH):
            timeouts = replace(timeouts, idle=duration("PERMANENT_SESSION_LIFETIME", lifetime))
        refresh = bool(config.get("SESSION_REFRESH_EACH_REQUEST", True))
        key = cookie, timeouts, refresh
        if key not in self._managers:
            self._managers[key] = SessionManager(
                self._storage,
                cookie,
                transports=self._transports,
                timeouts=timeouts,
                refresh=refresh,
                is_empty=_is_empty,
                is_persistent=_is_permanent,
                **self._settings,
            )
        return self._managers[key]

    def session_of(self, app: Any, request: Any, load: Callable[[Session], None]) -> SqlSession:
        """The session of a request; nothing is read yet."""
        manager = self.manager_of(app.config)
        session = open_from(
            manager, SqlSession, request.headers.getlist, load, address=lambda: request.remote_addr
        )
        session.manager = manager
        session.header = request.headers.get
        session.https = request.is_secure
        session.queue = self._queue
        return session

    def is_null_session(self, obj: object) -> bool:
        """Whether an object is no session; the frameworks' own way to look would read it."""
        return type(obj) is not SqlSession

    def add_headers(self, session: SqlSession, response: Response) -> None:
        """Add the headers that the session needs to a response."""
        headers = session.manager.headers.of(
            session,
            https=session.https,
            header=session.header,
            vary=",".join(response.headers.getlist("Vary")),
            cache_control=",".join(response.headers.getlist("Cache-Control")),
        )
        for name, value in headers:
            if name == "Vary":
                response.vary.add(value)  # into the one header that later changes of `vary` replace
            elif name == "Cache-Control":
                response.headers[name] = value
            else:
                response.headers.add(name, value)

    @staticmethod
    def require_fresh(session: SqlSession, max_age: Duration) -> None:
        """Check that the user of a session logged in recently.

        Raises:
            Unauthorized: If the user did not, or nobody is logged in.
        """
        try:
            check_fresh(session, max_age)
        except ReauthenticationRequired as error:
            headers = challenge(error, session) | {"Content-Type": MEDIA_TYPE}
            raise Problem(problem(error), headers) from error

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
