"""The tables, declared once: statements, migrations and ``alembic check`` all come from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    DDL,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    event,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

metadata = MetaData()
"""The tables of sqlsessions, for an application that owns them in its own Alembic history."""

# MySQL's errors for a user who may not create triggers, without which all else works.
_NO_TRIGGERS = {1142, 1227, 1419}
_OWNED = text("subject IS NOT NULL")

VERSION_TABLE = "sqlsessions_alembic_version"
"""Where Alembic keeps our revision, apart from the host's own."""

REVISIONS = (
    "sqlsessions_0001",
    "sqlsessions_0002",
    "sqlsessions_0003",
    "sqlsessions_0004",
    "sqlsessions_0005",
)
"""All revisions, the latest last: a storage knows them without Alembic."""

SUPERSEDED = -1
"""The ``seq`` of the row that says when its set of chunks was superseded: its data is that time, eight bytes
big-endian, by the database's own clock."""

TOMBSTONE = -(1 << 30)
"""The highest ``seq`` of a row that says which version of a session is there no more, other than by a write over
it. Its ``version`` is 0; its ``seq`` is random, by which its writer recognises it; its data is the
database's time, eight bytes big-endian, and the version in eight more. A writer of that version whose reply was
lost knows by it that the write took effect. If the session was ended, eight more are the time of that by the
service's clock, which is what late requests are compared with."""

PURGE_LEASE = -3
"""The ``seq`` of the row that says which process may purge."""

MOVED = -4
"""The ``seq`` of the row that says where a session went whose id was changed. Its ``id`` is the old digest, its
``version`` 0, so that it is found by its key; its data is the time of the move, eight bytes big-endian, and
the new digest. Neither is a credential: an id cannot be computed from its digest."""

LISTENING = -5
"""The ``seq`` of the row that says that somebody listens to notices of changes, see `NOTIFY`: its data is the time
at which a listener said so last, eight bytes big-endian."""

LISTENING_KEY = {"version": 0, "id": bytes(32), "seq": LISTENING}

NOTICED = -6
"""The ``seq`` of the row that has triggers leave notices, see `notices`. Nothing but its being there counts."""

NOTICED_KEY = {"version": 0, "id": bytes(32), "seq": NOTICED}

POLLED = -7
"""The ``seq`` of the row that says that somebody polls notices: its data is when that was last, and in eight bytes
more since when it was without a break, both by the database's clock."""

POLLED_KEY = {"version": 0, "id": bytes(32), "seq": POLLED}

SUBJECT = -8
"""The ``seq`` of a row that is never seen: a transaction that gives a session to a subject whose sessions are
bounded inserts it and deletes it, so that another one waits until the first has ended. Its ``version`` is 0, its
``id`` a hash of the subject."""

KEEPING = -9
"""The ``seq`` of the row that says that a namespace keeps sessions that have ended, so that whoever ends or purges
some does too. Its ``version`` is -1, so that all such rows are found at once; its ``id`` begins with what the digests of
the namespace begin with, and its data is for how long it keeps them, in microseconds, and in eight bytes more when a
service of it said so last."""

# MySQL's BLOB ends at 64 KiB and its BINARY compares by bytes; its default collations would take
# "Alice" for "alice". PostgreSQL's "C" compares by bytes too.
_Digest = LargeBinary(32).with_variant(mysql.BINARY(32), "mysql", "mariadb")
_Blob = LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
_Subject = (
    String(255)
    .with_variant(String(255, collation="C"), "postgresql")
    .with_variant(mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
)
_Reason = String(16).with_variant(
    mysql.VARCHAR(16, charset="ascii", collation="ascii_bin"), "mysql", "mariadb"
)
# JSON without other characters than ASCII, which every encoding of a database has.
_Json = Text().with_variant(mysql.TEXT(charset="ascii", collation="ascii_bin"), "mysql", "mariadb")


# COMPACT and REDUNDANT, which a server may have for default, have no room for the index of subjects.
MYSQL = ("mysql", "mariadb")
_MYSQL: dict[str, Any] = {
    f"{name}_{option}": value
    for name in MYSQL
    for option, value in (("engine", "InnoDB"), ("row_format", "DYNAMIC"))
}


class Base(DeclarativeBase):
    """Declarative base of the tables."""

    metadata = metadata


class SessionRow(Base):
    """A session. Times are microseconds since 1970 UTC, durations microseconds; NULL is never.

    ``ttl`` and ``ends_at`` are the session's own idle timeout and absolute end.

    ``expires_bucket`` is an hour (since 1970) before which the session does not expire: a lower
    bound, which a touch or a rewrite leaves alone and the purge moves up. It is indexed, and
    ``expires_at`` is not, so that on PostgreSQL both stay heap-only (HOT) updates.

    ``touched_at`` is when it was touched last, NULL if it was not since it began. ``client`` is JSON, an object of
    strings; ``labels`` is JSON, a list of strings in their order, by which `LabelRow` finds the session.
    """

    __tablename__ = "sessions"
    __table_args__ = (
        Index("ix_sessions_subject", "subject", "created_at", postgresql_where=_OWNED, sqlite_where=_OWNED),
        Index("ix_sessions_expires_bucket", "expires_bucket", "id"),
        _MYSQL,
    )

    id: Mapped[bytes] = mapped_column(_Digest, primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)
    data: Mapped[bytes | None] = mapped_column(_Blob)
    size: Mapped[int] = mapped_column(BigInteger)
    subject: Mapped[str | None] = mapped_column(_Subject)
    created_at: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[int | None] = mapped_column(BigInteger)
    ttl: Mapped[int | None] = mapped_column(BigInteger)
    ends_at: Mapped[int | None] = mapped_column(BigInteger)
    expires_bucket: Mapped[int | None] = mapped_column(Integer)
    client: Mapped[str | None] = mapped_column(_Json)
    touched_at: Mapped[int | None] = mapped_column(BigInteger)
    labels: Mapped[str | None] = mapped_column(_Json)


class LabelRow(Base):
    """An entry of the index of labels: SHA-256 of a label, and a session that may have it.

    Whether it has it, its own row says. An entry of a session that is gone, or was replaced by another one of the
    same id, stays until the purge finds it; ``version`` tells it from one that a later write made.
    """

    __tablename__ = "session_labels"
    __table_args__ = _MYSQL

    label: Mapped[bytes] = mapped_column(_Digest, primary_key=True)
    id: Mapped[bytes] = mapped_column(_Digest, primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger)


class EndRow(Base):
    """A session that has ended, without its data, for storages with ``keep_ended``.

    ``reason`` is one of `EndReason`; ``used_at`` is when the session was last written or touched.
    """

    __tablename__ = "session_ends"
    __table_args__ = (
        Index("ix_session_ends_subject", "subject", "ended_at", postgresql_where=_OWNED, sqlite_where=_OWNED),
        _MYSQL,
    )

    ended_at: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[bytes] = mapped_column(_Digest, primary_key=True)
    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    reason: Mapped[str] = mapped_column(_Reason)
    subject: Mapped[str | None] = mapped_column(_Subject)
    created_at: Mapped[int] = mapped_column(BigInteger)
    used_at: Mapped[int] = mapped_column(BigInteger)
    client: Mapped[str | None] = mapped_column(_Json)


class ChunkRow(Base):
    """A piece of a large blob, under the version and the id that it was staged for.

    A ``seq`` below 0 makes a special row: `SUPERSEDED`, `TOMBSTONE`, `PURGE_LEASE`, `MOVED`, `LISTENING`, `NOTICED`,
    `POLLED`, `SUBJECT` or `KEEPING`.
    """

    __tablename__ = "session_chunks"
    __table_args__ = _MYSQL

    version: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    id: Mapped[bytes] = mapped_column(_Digest, primary_key=True)
    seq: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(_Blob)


sessions = metadata.tables["sessions"]
chunks = metadata.tables["session_chunks"]
labels = metadata.tables["session_labels"]
ends = metadata.tables["session_ends"]


def _after_create(table: Table, statement: str, *databases: str) -> None:
    """Run a statement after a table was created, on PostgreSQL unless another database is named.

    ``{schema}`` in it is where, if schemas are translated.
    """

    def run(_table: Table, connection: Any, **_options: Any) -> None:
        dialect = connection.dialect
        if dialect.name in (databases or ("postgresql",)):
            options: Mapping[str, Any] = getattr(connection, "get_execution_options", dict)()
            name = (options.get("schema_translate_map") or {}).get(None)
            schema = "" if name is None else f"{dialect.identifier_preparer.quote_identifier(name)}."
            try:
                connection.execute(DDL(statement.replace("{schema}", schema).replace("%", "%%")))  # type: ignore[no-untyped-call]
            except DBAPIError as error:
                if error.orig is None or error.orig.args[0] not in _NO_TRIGGERS:
                    raise

    event.listen(table, "after_create", run)


# Room for the next version of a row beside it, so that an update stays heap-only.
_after_create(sessions, "ALTER TABLE {schema}sessions SET (fillfactor = 80)")
# Chunks are large and mostly compressed or encrypted already: trying to compress them is waste.
_after_create(chunks, "ALTER TABLE {schema}session_chunks ALTER COLUMN data SET STORAGE EXTERNAL")

NOTICE_CHANNEL = "sqlsessions"

# The notices of PostgreSQL: of each session that was changed, its digest and new version in hex, 0 for none. They
# are sent with the commit, while somebody listens and the server's queue is not half full, see `LISTENING`.
_NOTIFY_BODY = """
BEGIN
    IF NOT EXISTS (
        SELECT FROM {schema}session_chunks WHERE version = 0 AND id = decode(repeat('00', 32), 'hex') AND seq = -5
    ) OR pg_notification_queue_usage() >= 0.5 THEN
        RETURN NULL;
    ELSIF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_notify('sqlsessions', '*');
    ELSIF (SELECT count(*) FROM old_rows) > 5000 THEN
        PERFORM pg_notify('sqlsessions', '*');
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM pg_notify('sqlsessions', string_agg(notice, '')) FROM (
            SELECT encode(id, 'hex') || repeat('0', 16) AS notice, (row_number() OVER () - 1) / 90 AS page
            FROM old_rows
        ) AS notices GROUP BY page;
    ELSE
        PERFORM pg_notify('sqlsessions', string_agg(notice, '')) FROM (
            SELECT
                encode(earlier.id, 'hex') || lpad(to_hex(coalesce(later.version, 0)), 16, '0') AS notice,
                (row_number() OVER () - 1) / 90 AS page
            FROM old_rows AS earlier LEFT JOIN new_rows AS later ON later.id = earlier.id
            WHERE later.version IS DISTINCT FROM earlier.version
        ) AS notices GROUP BY page;
    END IF;
    RETURN NULL;
END
"""
# As a string without semicolons, by which tools part a script into statements.
_NOTIFY = (
    "CREATE OR REPLACE FUNCTION {schema}sqlsessions_notify() RETURNS trigger LANGUAGE plpgsql "
    "SET search_path FROM CURRENT AS E'" + _NOTIFY_BODY.replace("'", "''").replace(";", r"\x3b") + "'"
)
NOTICE_TRIGGERS = {
    "sqlsessions_notify_update": "AFTER UPDATE ON {schema}sessions REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "sqlsessions_notify_delete": "AFTER DELETE ON {schema}sessions REFERENCING OLD TABLE AS old_rows",
    "sqlsessions_notify_truncate": "AFTER TRUNCATE ON {schema}sessions",
}
"""The triggers that send notices of changes on `NOTICE_CHANNEL`, and when they do."""

_after_create(sessions, _NOTIFY)
for _name, _when in NOTICE_TRIGGERS.items():
    _after_create(
        sessions,
        f"CREATE TRIGGER {_name} {_when} FOR EACH STATEMENT EXECUTE FUNCTION {{schema}}sqlsessions_notify()",
    )

notices = Table(
    "session_notices",
    MetaData(),  # of its own, since other databases have no use for it
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("id", _Digest, nullable=False),
    Column("version", BigInteger, nullable=False),
    **_MYSQL,
)
"""The notices of MariaDB and MySQL, which triggers leave where there is `NOTICED`: a number that no other notice has,
the session that was changed, and its new version, 0 for none. Processes that poll them delete them."""

# No INSERT ... SELECT: after that, the statement that the trigger belongs to shares the lock of each further row before
# it asks for it alone, and two such statements deadlock.
_LEAVE = """{0}EXISTS (
    SELECT 1 FROM {{schema}}session_chunks WHERE version = 0 AND id = unhex(repeat('00', 32)) AND seq = -6
) THEN
    INSERT INTO {{schema}}session_notices (number, id, version)
    VALUES (CAST(uuid_short() & 9223372036854775807 AS SIGNED), OLD.id, {1});
END IF"""
NOTING_TRIGGERS = {
    "sqlsessions_notice_update": "AFTER UPDATE ON {schema}sessions FOR EACH ROW\nIF "
    + _LEAVE.format(
        "(NEW.version <> OLD.version OR NEW.id <> OLD.id) AND ", "if(NEW.id = OLD.id, NEW.version, 0)"
    ),
    "sqlsessions_notice_delete": "AFTER DELETE ON {schema}sessions FOR EACH ROW\nIF "
    + _LEAVE.format("", "0"),
}
"""The triggers that leave notices of changes on MariaDB and MySQL, and how."""

EARLIER_NOTING_TRIGGERS = ("sqlsessions_note_update", "sqlsessions_note_delete")
"""Those of the revision `sqlsessions_0003`, which leave the same."""


@event.listens_for(sessions, "after_create")
def _create_notices(_table: Table, connection: Any, **_options: Any) -> None:
    if connection.dialect.name in MYSQL:
        notices.create(connection, checkfirst=True)


@event.listens_for(sessions, "after_drop")
def _drop_notices(_table: Table, connection: Any, **_options: Any) -> None:
    if connection.dialect.name in MYSQL:
        notices.drop(connection, checkfirst=True)


for _name, _how in NOTING_TRIGGERS.items():
    _after_create(sessions, f"CREATE TRIGGER {{schema}}{_name} {_how}", *MYSQL)
