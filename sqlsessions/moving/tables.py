"""Sources in SQL databases: Django, Flask-Session, connect-pg-simple."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, tzinfo
from typing import Any, ClassVar, TypeVar

from sqlalchemy import (
    JSON,
    URL,
    ColumnClause,
    DateTime,
    LargeBinary,
    Row,
    Select,
    String,
    Text,
    column,
    delete,
    select,
    table,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from ..errors import InvalidArgument, missing
from ..layers.sources import OldSession, Refused, Source
from ..sql.dialects import DIALECTS
from ..sql.engine.options import for_engine
from ..sql.engine.temporary import TEMPORARY
from ..sql.engine.urls import async_url
from .reading import FORGED, UNSAFE_ID, Reading, Subject, checked_text, flask_loads, is_id
from .signatures import ExpressSigning, FlaskSigning, checked_keys

T = TypeVar("T")

PAGE = 500  # rows
LONG_AGO = datetime.fromtimestamp(0, UTC)
NAME = re.compile(r"(?:(\w+)\.)?(\w+)")


class TableSource(Source):
    """Sessions in the rows of a table.

    Connections are opened as they are needed, in any event loop.

    Args:
        url: The database, as for `SqlSessionStorage`.
        name: The table; ``schema.table`` if it is in a schema.
        key: Its column of ids.
        data: Its column of data, with its type.
        expiry: Its column of ends.
    """

    errors: ClassVar[tuple[type[Exception], ...]] = (OSError, SQLAlchemyError, TimeoutError)

    def __init__(self, url: str | URL, name: str, key: str, data: ColumnClause[Any], expiry: str) -> None:
        if (found := NAME.fullmatch(checked_text("table", name))) is None:
            raise InvalidArgument("table must be a name, such as django_session or app.django_session")
        url = async_url(url)
        plain, options = for_engine(DIALECTS[url.get_backend_name()], url, TEMPORARY, {"poolclass": NullPool})
        self._engine = create_async_engine(plain, hide_parameters=True, **options)
        self._key: ColumnClause[str] = column(key, String)
        self._table: Any = table(
            found[2], self._key, data, column(expiry, DateTime(timezone=True)), schema=found[1]
        )
        self._all = select(self._key, data, self._table.c[expiry])

    @abstractmethod
    def _key_of(self, id: str) -> str | None:
        """The key of the row for the value of a cookie; None if there can be none."""

    @abstractmethod
    def _session(self, row: Row[Any]) -> OldSession | Refused:
        """The session in a row."""

    async def load(self, id: str) -> OldSession | None:
        if (key := self._key_of(id)) is None:
            return None
        async with self._connected() as connection:
            row = (await connection.execute(self._all.where(self._key == key))).first()
        # Collations may find a key that is not the same.
        found = self._session(row) if row is not None and row[0] == key else None
        # Under the value that came: it may be signed with an older key.
        return replace(found, id=id) if isinstance(found, OldSession) else None

    async def end(self, id: str) -> None:
        if (key := self._key_of(id)) is not None:
            async with self._connected() as connection:
                await connection.execute(delete(self._table).where(self._key == key))

    async def sessions(self) -> AsyncIterator[OldSession | Refused]:
        page = self._page("")
        while rows := await self._fetched(page):
            for row in rows:
                yield self._session(row)
            page = self._page(rows[-1][0])

    async def aclose(self) -> None:
        await self._engine.dispose()

    def _page(self, after: str) -> Select[Any]:
        return self._all.where(self._key > after).order_by(self._key).limit(PAGE)

    async def _fetched(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        async with self._connected() as connection:
            rows: Sequence[Row[Any]] = (await connection.execute(statement)).all()
            return rows

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AsyncConnection]:
        async with self._engine.begin() as connection:
            yield connection


class DjangoTable(TableSource):
    """Django's sessions in its table ``django_session``, of the engines ``db`` and ``cached_db``.

    Needs Django. Data is stored as `sqlsessions.integrations.django` reads it; the other integrations read the same.

    Args:
        url: The database of Django's setting.
        secret_keys: ``SECRET_KEY``, and ``SECRET_KEY_FALLBACKS`` after it.
        serializer: What ``SESSION_SERIALIZER`` names, as a class. Django's own JSON unless set.
        subject: Whose a session is; by default the user whom ``django.contrib.auth`` logged in.
        table: The name of the table.
        zone: The zone of times without one, which MySQL and SQLite have: UTC unless ``USE_TZ`` is False.

    Raises:
        InvalidArgument: If an argument has a value that is not allowed.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        url: str | URL,
        secret_keys: Sequence[str],
        *,
        serializer: Any = None,
        subject: Subject = "_auth_user_id",
        table: str = "django_session",
        zone: tzinfo = UTC,
    ) -> None:
        try:
            from django.core import signing  # noqa: PLC0415 (only this needs Django)
        except ModuleNotFoundError as error:
            raise missing(error, "DjangoTable", "django") from error

        key, *fallbacks = checked_keys(secret_keys)
        super().__init__(url, table, "session_key", column("session_data", Text), "expire_date")
        self._zone = zone
        # The salt is of Django's class, whatever the engine.
        self._signer = signing.TimestampSigner(
            key=key, salt="django.contrib.sessions.SessionStore", fallback_keys=fallbacks
        )
        self._bad = signing.BadSignature
        chosen = signing.JSONSerializer if serializer is None else serializer
        self._reading = Reading(
            subject,
            lambda stored: self._signer.unsign_object(stored.decode(), serializer=chosen),
            None if serializer is None else lambda data: bytes(serializer().dumps(data)),
        )

    def _key_of(self, id: str) -> str | None:
        return id if is_id(id) else None

    def _session(self, row: Row[Any]) -> OldSession | Refused:
        key, stored, expiry = tuple(row)
        if not is_id(key):
            return UNSAFE_ID
        try:
            self._signer.unsign(stored)
        except self._bad:
            return FORGED
        found = self._reading.read(stored.encode())
        if isinstance(found, Refused):
            return found
        return OldSession(key, found[0], in_zone(expiry, self._zone), found[1])


class FlaskSessionTable(TableSource):
    """The sessions of Flask-Session in its table of SQLAlchemy.

    Args:
        url: The database of ``SQLALCHEMY_DATABASE_URI``.
        secret_keys: ``SECRET_KEY``, and older ones after it, if ``SESSION_USE_SIGNER`` is True; else nothing.
        table: ``SESSION_SQLALCHEMY_TABLE``.
        prefix: ``SESSION_KEY_PREFIX``.
        loads: As for `FlaskSessionRedis`.
        subject: Whose a session is: the key that names the user, or a function of the data. Nobody's unless set.

    Raises:
        InvalidArgument: If an argument has a value that is not allowed.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        secret_keys: Sequence[str] = (),
        table: str = "sessions",
        prefix: str = "session:",
        loads: Callable[[bytes], Any] | None = None,
        subject: Subject = None,
    ) -> None:
        super().__init__(url, table, "session_id", column("data", LargeBinary), "expiry")
        self._prefix = checked_text("prefix", prefix)
        self._signing = FlaskSigning(secret_keys) if secret_keys else None
        self._reading = Reading(subject, loads or flask_loads())

    def _key_of(self, id: str) -> str | None:
        if not is_id(id):
            return None
        found = id if self._signing is None else self._signing.unsign(id)
        return None if found is None else self._prefix + found

    def _session(self, row: Row[Any]) -> OldSession | Refused:
        key, stored, expiry = tuple(row)
        id = key.removeprefix(self._prefix)
        if self._signing is not None:
            id = self._signing.sign(id)
        if not is_id(id):
            return UNSAFE_ID
        found = self._reading.read(stored)
        if isinstance(found, Refused):
            return found
        # One without an end counts as expired there.
        return OldSession(id, found[0], in_zone(expiry or LONG_AGO, UTC), found[1])


class ConnectPgTable(TableSource):
    """The sessions of express-session, of Node, in the PostgreSQL table of connect-pg-simple.

    Its key ``cookie``, which has the settings of the cookie, is left out of the data.

    Args:
        url: The database.
        secret_keys: The ``secret`` of ``session({...})``, and older ones after it.
        table: The name of the table.
        subject: Whose a session is: the key that names the user, or a function of the data. Nobody's unless set.
        zone: The zone of the server's setting ``TimeZone``, as the table's times have none: UTC unless set.

    Raises:
        InvalidArgument: If an argument has a value that is not allowed.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        url: str | URL,
        secret_keys: Sequence[str],
        *,
        table: str = "session",
        subject: Subject = None,
        zone: tzinfo = UTC,
    ) -> None:
        super().__init__(url, table, "sid", column("sess", JSON), "expire")
        self._signing, self._zone = ExpressSigning(secret_keys), zone
        self._reading = Reading(subject, _without_cookie)

    def _key_of(self, id: str) -> str | None:
        return self._signing.unsign(id) if is_id(id) else None

    def _session(self, row: Row[Any]) -> OldSession | Refused:
        key, stored, expiry = tuple(row)
        if not is_id(id := self._signing.sign(key)):
            return UNSAFE_ID
        found = self._reading.read(json.dumps(stored).encode())
        if isinstance(found, Refused):
            return found
        return OldSession(id, found[0], in_zone(expiry, self._zone), found[1])


def _without_cookie(stored: bytes) -> dict[str, Any]:
    return {key: value for key, value in json.loads(stored).items() if key != "cookie"}


def in_zone(moment: datetime, zone: tzinfo) -> datetime:
    """A time that has a zone; one without is of a given zone."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
