"""A page for administrators: `AdminPage`, an ASGI application that finds and ends sessions, and shows statistics."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode

from ..errors import InvalidArgument, InvalidArgumentType, StorageUnavailable
from ..purging import Purging
from ..sql.diagnosis.statistics import Statistics, statistics
from ..sql.internals import internals_of
from ..sql.purge_lease import is_purging
from ..storage import ManagedSessionStorage
from ._admin_finding import KEY_DIGITS, find, sql_beneath
from ._admin_html import CSP, Purge, document
from ._web.watching import notice

__all__ = ["AdminPage"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LARGEST_FORM = 16 * 1024  # bytes
HEADERS = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", CSP.encode()),
    (b"referrer-policy", b"same-origin"),  # without it, browsers send the origin "null" with a form
    (b"x-content-type-options", b"nosniff"),
]

logger = logging.getLogger("sqlsessions")


class _Answer(NamedTuple):
    status: HTTPStatus
    body: str = ""
    location: str | None = None


class AdminPage:
    """A page that finds and ends sessions, and shows statistics: an ASGI application to be mounted.

    It asks nobody who they are: put your own authorisation in front of it. Whoever reaches it sees the subjects and
    times of all sessions, though no data and no ids, and can end them.

    The page is made on the server, without scripts, and admits none. Its forms are accepted from itself alone, as
    the headers ``Sec-Fetch-Site`` or ``Origin`` tell, which browsers send and pages cannot forge.

    Args:
        storage: The storage of the sessions. Over SQL, in whatever layers, the page also has statistics, which
            take a while with millions of sessions, and finds sessions by the beginning of a key.
        title: The heading.
        purging: What purges in this process, ``storage.purging()``, to be shown with the statistics.

    Raises:
        InvalidArgumentType: If the storage is not a `ManagedSessionStorage`.
    """

    def __init__(
        self, storage: ManagedSessionStorage, *, title: str = "Sessions", purging: Purging | None = None
    ) -> None:
        if not isinstance(storage, ManagedSessionStorage):
            raise InvalidArgumentType(
                f"storage must be a ManagedSessionStorage, not {type(storage).__name__}"
            )
        self._storage = storage
        self._title = title
        self._purging = purging

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            raise InvalidArgument("AdminPage serves HTTP requests only")
        try:
            answer = await self._answer(scope, receive)
        except StorageUnavailable:
            logger.warning("the admin page cannot be shown: the storage is unavailable")
            answer = _plain(HTTPStatus.SERVICE_UNAVAILABLE, "The storage is unavailable.")
        headers = [*HEADERS]
        if answer.location is not None:
            headers.append((b"location", answer.location.encode("latin-1")))
        body = b"" if scope["method"] == "HEAD" else answer.body.encode()
        await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Message, receive: Receive) -> _Answer:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path not in ("", "/"):
            return _plain(HTTPStatus.NOT_FOUND, "There is no such page.")
        if scope["method"] in ("GET", "HEAD"):
            return await self._page(_fields(scope.get("query_string", b"")))
        if scope["method"] != "POST":
            return _plain(HTTPStatus.METHOD_NOT_ALLOWED, "This page takes GET and POST.")
        if not _is_from_itself(scope):
            return _plain(HTTPStatus.FORBIDDEN, "This form is not of this page.")
        if (body := await _body(receive)) is None:
            return _plain(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "This form is too large.")
        return await self._post(_fields(body))

    async def _page(self, fields: dict[str, str]) -> _Answer:
        query = fields.get("q", "").strip()
        ended = fields.get("ended", "")
        found = await find(self._storage, query) if query else None
        counts = await self._statistics() if "statistics" in fields else None
        purge = await self._purge() if counts is not None else None
        return _Answer(
            HTTPStatus.OK,
            document(
                self._title,
                query,
                found,
                counts,
                purge=purge,
                countable=counts is None and sql_beneath(self._storage) is not None,
                ended=int(ended)
                if ended.isdecimal() and ended.isascii() and len(ended) < KEY_DIGITS
                else None,
            ),
        )

    async def _post(self, fields: dict[str, str]) -> _Answer:
        try:
            if key := fields.get("key"):
                ended = int(await self._storage.invalidate_key(key))
                notice(self._storage, [key])
            elif subject := fields.get("subject"):
                ended = await self._storage.revoke(subject)
                notice(self._storage, None)
            else:
                return _plain(HTTPStatus.BAD_REQUEST, "This form names no session.")
        except InvalidArgument:
            return _plain(HTTPStatus.BAD_REQUEST, "This form names no session that there could be.")
        logger.info("an administrator ended %d sessions", ended)
        back = urlencode({"q": fields.get("q", ""), "ended": ended})
        return _Answer(HTTPStatus.SEE_OTHER, location=f"?{back}")

    async def _statistics(self) -> Statistics | None:
        """The statistics of the tables; None if there are none."""
        if (sql := sql_beneath(self._storage)) is None:
            return None
        internals = internals_of(sql)
        return await statistics(internals.database, internals.repository.now())

    async def _purge(self) -> Purge:
        """The state of the purge, by this process and by others."""
        sql = sql_beneath(self._storage)
        done = None if self._purging is None else self._purging.statistics
        return Purge(sql is not None and await is_purging(internals_of(sql).database), done)


def _is_from_itself(scope: Message) -> bool:
    """Whether a form was sent by a page of the same origin."""
    headers: dict[bytes, str] = {name: value.decode("latin-1") for name, value in scope["headers"]}
    if (site := headers.get(b"sec-fetch-site")) is not None:
        return site == "same-origin"
    _, separator, host = headers.get(b"origin", "").partition("://")
    return bool(separator and host) and host == headers.get(b"host")


def _fields(text: bytes) -> dict[str, str]:
    try:
        found = parse_qs(text.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=10)
    except ValueError:  # too many
        return {}
    return {name: values[0] for name, values in found.items()}


async def _body(receive: Receive) -> bytes | None:
    """The body of a request; None if it is too large."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return b""  # a form that was cut off may name another subject
        piece: bytes = message.get("body", b"")
        body += piece
        if len(body) > LARGEST_FORM:
            return None
        if not message.get("more_body"):
            return body


def _plain(status: HTTPStatus, text: str) -> _Answer:
    return _Answer(status, document(text, "", None, None, search=False))
