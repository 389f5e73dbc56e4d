"""`AioHttpStorage`: a storage of aiohttp-session over one of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

import aiohttp_session
from aiohttp import web

from ..errors import InvalidArgument, InvalidArgumentType, StorageUnavailable
from ..storage import DEFAULT, Default, Duration, ManagedSessionStorage, new_session_id
from ._aiohttp_session import Session
from ._web.changing import Data, apply
from ._web.clients import ClientInfo
from ._web.cookies import Cookie, SameSite, default_name
from ._web.manager import SessionManager
from ._web.opening import open_from
from ._web.queues import request_queue
from ._web.serializers import TextSerializer
from ._web.session import Session as _Data
from ._web.subject_keys import SubjectKey
from ._web.timeouts import SECOND, Timeouts
from ._web.transports import Bearer, checked_transports
from ._web.unavailable import RETRY_AFTER, TEXT, Unavailable, is_raised, log

DEFAULT_NAME = "AIOHTTP_SESSION"  # aiohttp-session's cookie_name
QUEUED = "sqlsessions.queued"  # what a request loaded that others wait for; None once its response began


class AioHttpStorage(aiohttp_session.AbstractStorage):
    """A storage for ``aiohttp_session.setup(app, AioHttpStorage(storage))``.

    Args:
        storage: The storage of the sessions; it is not closed.
        cookie_name: Name of the cookie; None, the default, is ``"AIOHTTP_SESSION"``, with ``__Host-`` before it
            if ``secure=True`` and no path or domain is set, which is the safest.
        domain: Domain of the cookie; None is only the host that set it.
        expire_at_browser_close: Whether the cookie ends when the browser is closed, as with
            aiohttp-session's own storages; by default unless there is a ``ttl``.
        max_age: Deprecated: the former name of ``ttl``. None is ``expire_at_browser_close=True``.
        path: Path of the cookie.
        secure: Whether the cookie is ``Secure``: True, False, or None, the default, for requests that
            came by https.
        httponly: True only: scripts do not need a session id.
        samesite: ``"Lax"``, ``"Strict"`` or ``"None"``; None is ``"Lax"``.
        key_factory: Makes session ids, which must be unguessable: 256 random bits unless set.
        encoder: Encodes session data as text: JSON unless set.
        decoder: Decodes it; if it raises, there is no session.
        partitioned: Whether the cookie is partitioned by top-level site (CHIPS).
        ttl: Seconds after its last use that a session ends, and age of the cookie; None is never. DEFAULT is
            the storage's own timeout.
        absolute_timeout: Seconds after its creation that a session ends however much it is used; None
            leaves that to the storage.
        rotate_on_login: Whether a session whose subject changes gets a new id.
        unavailable: What is raised while the storage is unavailable: ``"503"`` is aiohttp's
            `HTTPServiceUnavailable`; ``"raise"`` is `StorageUnavailable`, for middlewares of the
            application's own.
        serialize: Whether the requests of one session wait for each other in this process, from their first
            access to the session until it is written with the response; needs `setup`. True waits for up to
            10 seconds, a number for so many; then the session counts as unavailable.
        transports: Where a request may present its session id, and how a response gives one: `Cookie` and
            `Bearer`, in the order of precedence. The settings of the cookie are then those of its `Cookie`. None
            is the cookie alone.
        subject_key: For code that logs a user in by a key of the session alone: the key, or a function of the
            data, which names the user or None. A change of it is a login or a logout.
        anonymous_ttl: Idle timeout of sessions without a subject, those of guests; a login gives them ``ttl``.
            DEFAULT is ``ttl``.
        client_info: Gives what to keep of the client with its session, for lists: such as ``address_and_user_agent``, or
            a function of a `ClientRequest`. It is kept whenever the session is written. None, the default, keeps nothing.

    Raises:
        InvalidArgument: If an argument is out of its range, or browsers would reject such a cookie.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        storage: ManagedSessionStorage,
        *,
        cookie_name: str | None = None,
        domain: str | None = None,
        ttl: Duration | Default | None = DEFAULT,
        expire_at_browser_close: bool | None = None,
        max_age: Duration | Default | None = DEFAULT,
        path: str = "/",
        secure: bool | None = None,
        httponly: bool = True,
        samesite: str | None = None,
        key_factory: Callable[[], str] = new_session_id,
        encoder: Callable[[object], str] = json.dumps,
        decoder: Callable[[str], Any] = json.loads,
        partitioned: bool = False,
        absolute_timeout: Duration | None = None,
        rotate_on_login: bool = True,
        unavailable: Unavailable = "503",
        serialize: bool | Duration = False,
        transports: Sequence[Cookie | Bearer] | None = None,
        subject_key: SubjectKey | None = None,
        anonymous_ttl: Duration | Default | None = DEFAULT,
        client_info: ClientInfo | None = None,
    ) -> None:
        if not httponly:
            raise InvalidArgument("httponly must be True: scripts do not need a session id")
        for name, function in (("key_factory", key_factory), ("encoder", encoder), ("decoder", decoder)):
            if not callable(function):
                raise InvalidArgumentType(f"{name} must be a function, not {type(function).__name__}")
        if cookie_name is None:
            cookie_name = default_name(DEFAULT_NAME, path=path, domain=domain, secure=secure)
        cookie = Cookie(cookie_name, path, domain, cast(SameSite, samesite or "lax"), secure, partitioned)
        cookie, found = checked_transports(transports, cookie, is_set=cookie != Cookie(DEFAULT_NAME))
        closes = ttl is DEFAULT and max_age is DEFAULT
        timeouts = Timeouts.checked(
            ttl,
            absolute_timeout,
            expire_at_browser_close=closes if expire_at_browser_close is None else expire_at_browser_close,
            max_age=max_age,
            anonymous_ttl=anonymous_ttl,
        )
        super().__init__(
            cookie_name=cookie.name,
            domain=cookie.domain,
            max_age=_age(timeouts, ""),
            path=cookie.path,
            secure=cookie.secure,
            samesite=cookie.same_site,
            encoder=encoder,
            decoder=decoder,
        )
        standard = encoder is json.dumps and decoder is json.loads
        self.manager = SessionManager(
            storage,
            cookie,
            transports=found,
            timeouts=timeouts,
            serializer=None if standard else TextSerializer(encoder, decoder),
            rotate_on_login=rotate_on_login,
            subject_key=subject_key,
            client_info=client_info,
            new_id=key_factory,
        )
        self._ages = self.max_age, _age(timeouts, None)
        self.raises = is_raised(unavailable)
        self._queue = request_queue(serialize)

    async def new_session(self) -> Session:
        """A new session that replaces the session of the request, which ends."""
        return Session(self.manager.open(), self._ages, replaces=True)

    async def load_session(self, request: web.Request) -> Session:
        """The session of the request, or a new one."""
        data = self._open(request)
        try:
            await self._enter(request, data)
            await self.manager.load(data)
        except StorageUnavailable as error:
            self._fail(error)
        data.mark_accessed()
        return Session(data, self._ages)

    async def change(self, request: web.Request, function: Callable[[Data], Any]) -> Any:
        """Change the session of a request as it is stored."""
        fresh = aiohttp_session.SESSION_KEY not in request
        session = cast(Session, await aiohttp_session.get_session(request))
        if session.replaces:
            await self.save_session(request, None, session)
        data = session._mapping  # noqa: SLF001 (the attribute is aiohttp-session's)
        try:
            return await apply(self.manager.changing.attempts(data, fresh=fresh), function)
        except StorageUnavailable as error:
            self._fail(error)

    async def refresh(self, data: _Data) -> None:
        """Read the session of a request again."""
        try:
            await self.manager.refresh(data)
        except StorageUnavailable as error:
            self._fail(error)

    async def save_session(
        self, request: web.Request, response: web.StreamResponse | None, session: aiohttp_session.Session
    ) -> None:
        """Write what changed, and add the headers that the session needs.

        Args:
            request: The request.
            response: Its response; None if that has begun.
            session: Its session.
        """
        if not isinstance(session, Session):
            raise InvalidArgumentType("the session is not one that AioHttpStorage loaded")
        data = session._mapping  # noqa: SLF001 (the attribute is aiohttp-session's)
        data.state.answered = response is None
        try:
            if session.replaces:
                old = self._open(request)
                data.state.bearer = old.state.bearer
                await self.manager.replace(old, data)
                session.replaces = False
            else:
                await self.manager.commit(data)
        except StorageUnavailable as error:
            self._fail(error)
        if response is not None:
            data.mark_accessed()
            headers = self.manager.headers.of(
                data,
                https=request.secure,
                header=request.headers.get,
                vary=",".join(response.headers.getall("Vary", [])),
                cache_control=",".join(response.headers.getall("Cache-Control", [])),
            )
            for name, value in headers:
                if name == "Cache-Control":
                    response.headers.popall(name, None)
                response.headers.add(name, value)

    def _open(self, request: web.Request) -> _Data:
        return open_from(
            self.manager, _Data, lambda name: request.headers.getall(name, []), address=lambda: request.remote
        )

    async def _enter(self, request: web.Request, data: _Data) -> None:
        if self._queue is None:
            return
        if QUEUED not in request:
            raise InvalidArgument("serialize needs sqlsessions.integrations.aiohttp.setup(app, storage)")
        if request[QUEUED] is not None:  # else the response began
            request[QUEUED].append(data)
            await self._queue.enter(data)

    def leave(self, request: web.Request) -> None:
        """Let the other requests have the session, once it is written."""
        queued, request[QUEUED] = request.get(QUEUED) or (), None
        for data in queued:
            self._queue.leave(data)  # type: ignore[union-attr]  # there is one

    def _fail(self, error: StorageUnavailable) -> NoReturn:
        if self.raises:
            raise error
        log(error)
        raise web.HTTPServiceUnavailable(headers={"Retry-After": str(RETRY_AFTER)}, text=TEXT) from error


def _age(timeouts: Timeouts, subject: str | None) -> int | None:
    """The age of the cookies of a subject in seconds, or of those of guests; None if it is not known, or none."""
    idle = timeouts.idle_of(subject)
    return idle // SECOND if timeouts.persistent and isinstance(idle, int) else None
