"""Sessions for projects on starsessions: `StarsessionsStore` and `SessionMiddleware`."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Collection
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from ..errors import (
    InvalidArgument,
    InvalidSessionId,
    SessionConflict,
    SessionTooLarge,
    StorageUnavailable,
    missing,
)

try:
    import starsessions
except ModuleNotFoundError as error:
    raise missing(error, "sqlsessions.integrations.starsessions", "starsessions") from error
from starlette.types import Message, Receive, Scope, Send

from ..info import SessionInfo
from ..records import checked_labels, digest
from ..storage import DEFAULT, Default, ManagedSessionStorage, new_session_id
from ._starsessions_requests import SCOPE_KEY, Found, RequestState, current_request
from ._web.arguments import checked_storage
from ._web.asgi import cookies_of, header_values
from ._web.candidates import candidate_ids, load_live
from ._web.clients import ClientInfo, ClientRequest, address_and_user_agent, address_of, checked_client_info
from ._web.connections import HasScope
from ._web.cookies import parse_custom_id
from ._web.listing import Listing
from ._web.payloads import max_size
from ._web.renewal import gains
from ._web.serializers import Verified
from ._web.subjects import checked_subject
from ._web.unreadable import log_unreadable

__all__ = [
    "ClientRequest", "SessionMiddleware", "StarsessionsStore", "address_and_user_agent", "end_other_sessions",
    "end_session", "get_session_info", "list_sessions", "set_labels", "set_subject",
]  # fmt: skip

ATTEMPTS = 30
LONGEST_PAUSE = 0.1  # seconds

_METADATA = "__metadata__"  # the key of starsessions' own

logger = logging.getLogger("sqlsessions")


_found: ContextVar[Found | None] = ContextVar("sqlsessions_starsessions_found", default=None)


class SessionMiddleware(starsessions.SessionMiddleware):
    """starsessions' middleware of this name, which tells `StarsessionsStore` what belongs to one request.

    A request then does not bring back a session that ended meanwhile, wherever it loads it, and of several
    cookies of the same name the one whose session lives is used. A session whose data cannot be read is none. The
    cookie is not sent with each response, but once that gains 5 % of its time: a slow response does not take a new
    cookie away from the browser.

    Args:
        arguments: Those of starsessions' own.
        client_info: Gives what each write keeps of the client: such as ``address_and_user_agent``, or a function of a
            `ClientRequest`. None keeps nothing.
        options: As the arguments.

    Raises:
        InvalidArgumentType: If ``client_info`` is neither a function nor None.
    """

    def __init__(self, *arguments: Any, client_info: ClientInfo | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.serializer = _Reader(self.serializer)
        self._client_info = checked_client_info(client_info)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        request = RequestState()
        if scope["type"] in ("http", "websocket"):
            request.candidates = candidate_ids(cookies_of(scope, self.cookie_name), parse_custom_id)
            scope[SCOPE_KEY] = request
            if self._client_info is not None:
                client = ClientRequest(partial(header_values, scope), partial(address_of, scope))
                request.client = partial(self._client_info, client)

        async def send_kept(message: Message) -> None:
            if message["type"] == "http.response.start" and request.kept is not None:
                kept = f"{self.cookie_name}={request.kept};".encode("latin-1")
                headers = [
                    header
                    for header in message["headers"]
                    if header[0] != b"set-cookie" or not header[1].startswith(kept)
                ]
                message = {**message, "headers": headers}
            await send(message)

        token = current_request.set(request)
        try:
            await super().__call__(scope, receive, send_kept)
        finally:
            request.client = None  # which refers to the scope, and that to the request
            current_request.reset(token)


class _Reader(starsessions.Serializer):
    """A serializer, to which a session whose data it cannot read is none: what is written gets a new id."""

    def __init__(self, serializer: starsessions.Serializer) -> None:
        self._serializer = serializer
        self._verified = Verified(serializer.serialize, serializer.deserialize)

    def serialize(self, data: Any) -> bytes:
        return self._verified.dumps(data)

    def deserialize(self, data: bytes) -> dict[str, Any]:
        request = current_request.get()
        found = None if request is None else request.found
        if request is None or found is None or found.info is None:
            return self._serializer.deserialize(data)
        try:
            read: Any = self._serializer.deserialize(data) if data else None
        except Exception:  # noqa: BLE001 (a serializer may raise anything)
            read = None
        if isinstance(read, dict) and isinstance(read.get(_METADATA, {}), dict):
            return read
        log_unreadable(found.storage, found.storage.digest(found.id))
        request.found = replace(found, info=None)
        return {}


class StarsessionsStore(starsessions.SessionStore):
    """A store for ``SessionMiddleware(app, store=StarsessionsStore(storage), ...)``.

    It is safer than the interface requires. An id of which there is no session is never used: a write gives
    a new one. With the `SessionMiddleware` of this module, a request does not bring back a session that ended
    meanwhile. With starsessions' own, that holds where the session is loaded in the middleware's own task, as
    by `SessionAutoloadMiddleware` right inside it.

    Args:
        storage: The storage of the sessions; it is not closed.

    Raises:
        InvalidArgumentType: If ``storage`` is not a `ManagedSessionStorage`.
    """

    def __init__(self, storage: ManagedSessionStorage) -> None:
        self.storage = checked_storage(storage)
        self._locks: WeakValueDictionary[tuple[asyncio.AbstractEventLoop, str], asyncio.Lock] = (
            WeakValueDictionary()
        )

    async def read(self, session_id: str, lifetime: int) -> bytes:  # noqa: ARG002 (of the interface)
        """The data of a session; empty if there is none.

        Args:
            session_id: Its id.
            lifetime: Ignored: a session expires as it was written.

        Raises:
            StorageUnavailable: If it cannot be read.
        """
        request = current_request.get()
        ids = request.candidates if request is not None and request.candidates else (session_id,)
        if not _is_id(ids[0]):
            return b""
        live = await load_live(self.storage, ids, lambda data: data)
        if live is None:
            self._note(session_id, session_id, None)
            return b""
        id, snapshot, data = live
        self._note(session_id, id, snapshot.info)
        return data

    async def write(self, session_id: str, data: bytes, lifetime: int, ttl: int) -> str:
        """Replace the data of a session.

        Args:
            session_id: Its id.
            data: The data.
            lifetime: Lifetime of sessions in seconds; 0 is until the browser is closed, and the storage's
                own idle timeout holds.
            ttl: Seconds until it ends, at least 1. Ignored if ``lifetime`` is 0.

        Returns:
            The id for the cookie: a new one if no session had this id.

        Raises:
            StorageUnavailable: If it could not be written.
            SessionTooLarge: If the data is too large for the storage.
        """
        if len(data) > (most := max_size(self.storage)):
            raise SessionTooLarge(most, len(data))
        expiry: float | Default = DEFAULT if lifetime == 0 else max(1, ttl)
        id, over = await self._found(session_id)
        if over is not None:
            info = await self._replace(id, over, data, expiry)
            self._keep_cookie(id, info is None or lifetime == 0 or not gains(over, info))
        else:
            id = new_session_id()
            info = await self.storage.write_bytes(id, data, ttl=expiry, if_match=0, **_names(None))
        if info is None:
            logger.warning("a session ended while a request was under way: its changes are dropped")
        else:
            self._note(id, id, info)
        return id

    async def remove(self, session_id: str | None) -> None:
        """End a session, if there is one.

        Args:
            session_id: Its id; None, as ``get_session_id`` gives for a visitor without a session, is none.

        Raises:
            StorageUnavailable: If it could not be ended.
        """
        if session_id is None:
            return
        if (request := current_request.get()) is not None and session_id in request.candidates:
            request.removed = True
        for id in _candidates(session_id):
            if _is_id(id):
                await self.storage.invalidate(id)

    def _note(self, presented: str, id: str, info: SessionInfo | None) -> None:
        found = Found(self.storage, presented, id, info)
        if (request := current_request.get()) is not None:
            request.found = found
        else:
            _found.set(found)

    def _keep_cookie(self, id: str, keep: bool) -> None:
        """Have the middleware of this module send the cookie of an id, or not; another one always does."""
        request = current_request.get()
        if request is not None and id in request.candidates:
            request.kept = id if keep else None

    async def _found(self, session_id: str) -> tuple[str, SessionInfo | None]:
        """The id of a live session, with what the request read of it, or else what there is now."""
        request = current_request.get()
        found = _found.get() if request is None else request.found
        if found is not None and found.storage is self.storage and found.presented == session_id:
            return found.id, found.info
        if not _is_id(session_id) or (request is not None and session_id not in request.candidates):
            return session_id, None  # starsessions has just made it
        return session_id, await self.storage.info(session_id)

    async def _replace(
        self, id: str, over: SessionInfo, data: bytes, ttl: float | Default
    ) -> SessionInfo | None:
        """Write a session over later writes of other requests; the session, or None if it ended."""
        try:
            return await self.storage.write_bytes(id, data, ttl=ttl, if_match=over.version, **_names(over))
        except SessionConflict:
            loop = asyncio.get_running_loop()
            async with self._locks.setdefault((loop, id), asyncio.Lock()):
                return await self._replace_again(id, data, ttl)

    async def _replace_again(self, id: str, data: bytes, ttl: float | Default) -> SessionInfo | None:
        """The same, while other requests of this process wait: they need not conflict again."""
        for attempt in range(ATTEMPTS):
            if (info := await self.storage.info(id)) is None:
                return None
            try:
                return await self.storage.write_bytes(
                    id, data, ttl=ttl, if_match=info.version, **_names(info)
                )
            except SessionConflict:
                await asyncio.sleep(random.random() * min(LONGEST_PAUSE, 0.001 * 2**attempt))  # noqa: S311
        raise StorageUnavailable(f"the session was changed during each of {ATTEMPTS} writes: try again later")


def _names(over: SessionInfo | None) -> dict[str, Any]:
    """The subject, labels and client to write with a session, as the request that is served has them."""
    request = current_request.get()
    return {} if request is None else request.names(over)


def _candidates(session_id: str) -> tuple[str, ...]:
    """The ids in the cookies of the request, if this is one of them; else just the id."""
    request = current_request.get()
    if request is not None and session_id in request.candidates:
        return request.candidates
    return (session_id,)


def get_session_info(connection: HasScope) -> SessionInfo | None:
    """The `SessionInfo` of the session as it was read, or written: its key, subject, labels, client and times; None if there is none.

    Raises:
        SessionNotLoaded: If the session is not loaded.
        InvalidArgument: If the request did not pass through the `SessionMiddleware` of this module.
    """
    return _loaded(connection).info


def set_subject(connection: HasScope, subject: str | None) -> None:
    """Set whose session it is, for lists, ``end_session`` and the storage's ``revoke``; None is nobody.

    The session needs data to be stored. Give it a new id at a login, and drop the data of another user; its labels go
    unless `set_labels` sets others.

    Raises:
        InvalidArgument: If it is empty, longer than 255 characters, or begins with U+001F; otherwise as `get_session_info`.
        InvalidArgumentType: If it is not a string.
        SessionNotLoaded: As `get_session_info`.
    """
    _loaded(connection).subject = None if subject is None else checked_subject(subject)


def set_labels(connection: HasScope, labels: Collection[str]) -> None:
    """Set all further names of the session, such as a tenant's, for the storage's `sessions` and ``revoke_label``.

    Raises:
        InvalidArgument: If one is no label, or there are more than 16; otherwise as `get_session_info`.
        InvalidArgumentType: If it is no collection of strings.
        SessionNotLoaded: As `get_session_info`.
    """
    _loaded(connection).labels = checked_labels(labels)


async def list_sessions(connection: HasScope) -> AsyncIterator[SessionInfo]:
    """The live sessions of this session's subject, the newest first; none if it has no subject."""
    request = _loaded(connection)
    async for info in _listing(connection).of_subject(request.owner):
        yield info


async def end_session(connection: HasScope, key: str) -> bool:
    """End a session of the same subject by its `SessionInfo.key`; whether there was one."""
    request = _loaded(connection)
    return await _listing(connection).end_of(request.owner, key)


async def end_other_sessions(connection: HasScope) -> int:
    """End all sessions of the same subject but this one; the number of them."""
    request = _loaded(connection)
    keep = None if request.found is None else request.found.id
    return await _listing(connection).end_others_of(request.owner, keep)


def _loaded(connection: HasScope) -> RequestState:
    request = connection.scope.get(SCOPE_KEY)
    if not isinstance(request, RequestState):
        raise InvalidArgument(
            "this request did not pass through sqlsessions' SessionMiddleware for starsessions"
        )
    if not connection.scope["session_handler"].is_loaded:
        raise starsessions.SessionNotLoaded("the session is not loaded")
    return request


def _listing(connection: HasScope) -> Listing:
    store = connection.scope["session_handler"].store
    if not isinstance(store, StarsessionsStore):
        raise InvalidArgument("the store of the SessionMiddleware is no StarsessionsStore")
    return Listing(store.storage)


def _is_id(id: str) -> bool:
    try:
        digest(id)
    except InvalidSessionId:
        return False
    return True
