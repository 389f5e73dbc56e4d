"""The hot statements, built once for each database from the declared tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    ColumnElement,
    Executable,
    and_,
    bindparam,
    case,
    func,
    insert,
    literal_column,
    not_,
    null,
    or_,
    select,
    update,
)

from ..._versions import BLOCK, CEILING
from ...records import PLAIN, Options, Record
from ...storage import DEFAULT, KEEP
from ..dialects import HOUR, Dialect
from ..models import chunks, sessions

_NEVER = (1 << 63) - 1
_NO_BUCKET = (1 << 31) - 1

c, k = sessions.c, chunks.c
RECORD = (
    c.version, c.size, c.expires_at, c.subject, c.created_at, c.updated_at, c.ttl, c.ends_at, c.touched_at, c.client,
    c.labels,
)  # fmt: skip
"""The columns of a `Record`, in its order."""

Part = Literal["record", "data", "all"]
"""What of a session is read: its record, its data, or both."""

PARTS: dict[Part, tuple[Column[Any], ...]] = {
    "record": (c.id, *RECORD),
    "data": (c.id, c.version, c.size, c.expires_at, c.data),
    "all": (c.id, *RECORD, c.data),
}
"""The columns of each, in whose rows some have the same places: the id comes first, and the data last."""

VERSION, SIZE, EXPIRES_AT, DATA = 1, 2, 3, -1
"""Places in these rows."""

_RECORD_END = 1 + len(RECORD)


def part_of(parts: Iterable[Part]) -> Part:
    """What to read of sessions at once, of which some parts are wanted."""
    different = set(parts)
    return different.pop() if len(different) == 1 else "all"


def record_of(row: Sequence[Any]) -> Record:
    """The record in a row of a record, or of all."""
    return Record(*row[1:_RECORD_END])


def parameter(name: str) -> BindParameter[Any]:
    """A bound parameter of a column's type."""
    return bindparam(f"p_{name}", type_=sessions.c[name].type)


INLINE = c.data.is_not(None)
CHUNKED = c.data.is_(None)


def live_at(now: int | ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a session lives at a time."""
    return or_(c.expires_at.is_(None), c.expires_at > now)


TOUCH = (
    update(sessions)
    .where(
        c.id == parameter("id"),
        c.version == parameter("version"),
        c.expires_at.is_not_distinct_from(bindparam("p_seen", type_=BigInteger())),
        c.touched_at.is_not_distinct_from(bindparam("p_seen_touch", type_=BigInteger())),
    )
    .values({name: parameter(name) for name in ("ttl", "expires_at", "touched_at")})
)
"""Applies a touch, unless the session was written or touched since it was read."""


READ_CHUNKS = (
    select(k.seq, k.data)
    .where(
        k.version == bindparam("p_version", type_=k.version.type),
        k.id == bindparam("p_id", type_=k.id.type),
        k.seq >= bindparam("p_first", type_=k.seq.type),
        k.seq < bindparam("p_end", type_=k.seq.type),
    )
    .order_by(k.seq)
)
"""Some chunks of a large session."""

WRITE_CHUNK = insert(chunks).values({each.name: bindparam(f"p_{each.name}", type_=each.type) for each in k})
"""Stages a chunk."""


class ExplicitOptions(NamedTuple):
    """Which options a write was given, as opposed to left at DEFAULT or KEEP."""

    ttl: bool
    max_age: bool
    subject: bool
    client: bool = False

    @classmethod
    def of(cls, options: Options) -> ExplicitOptions:
        """Which options are given."""
        if options is PLAIN:
            return _NONE
        return cls(
            options.ttl is not DEFAULT,
            options.max_age is not DEFAULT,
            options.subject is not KEEP,
            options.client is not KEEP,
        )


_NONE = ExplicitOptions(ttl=False, max_age=False, subject=False)


def row(digest: bytes, record: Record, data: bytes | None) -> tuple[Any, ...]:
    """The values of a whole row, in the order of the columns."""
    return (
        digest,
        record.version,
        data,
        record.size,
        record.subject,
        record.created_at,
        record.updated_at,
        record.expires_at,
        record.ttl,
        record.ends_at,
        bucket(record.expires_at),
        record.client,
        record.touched_at,
        record.labels,
    )


def bucket(expires_at: int | None) -> int | None:
    """The hour of an expiry."""
    return None if expires_at is None else expires_at // HOUR


def written_columns(*, client: bool) -> list[str]:
    """The columns that a small write gives, the first of a row: no labels, nor a touch, and a client if it is given."""
    names = [*c.keys()]
    return names[: names.index("client") + client]


def parameters(row: tuple[Any, ...]) -> dict[str, Any]:
    """The same as parameters of a statement."""
    return {f"p_{column.name}": value for column, value in zip(c, row, strict=True)}


@lru_cache
def upsert(dialect: Dialect, given: ExplicitOptions, *, absent: bool, returning: bool = True) -> Executable:
    """Write a small session over a small one, or where there is none; see `over`."""
    names = written_columns(client=given.client)
    insert = dialect.insert(sessions).values({name: parameter(name) for name in names})
    return over(dialect, insert, given, absent=absent, returning=returning)


def over(
    dialect: Dialect, insert: Any, given: ExplicitOptions, *, absent: bool, returning: bool = True
) -> Executable:
    """Complete an INSERT of small sessions so that it writes over small ones.

    It returns no row, or one with another token, where it did not write: because the old session is
    chunked or has a version above the ceiling, or because a live one exists and there should be none.

    Args:
        dialect: The database.
        insert: Of all columns.
        given: The options that are given.
        absent: Whether to write only where there is no live session.
        returning: Whether it returns rows.
    """
    new = dialect.incoming(insert)
    condition, following = _below(dialect, new.version), _following(new.version)
    if absent:
        condition = and_(condition, not_(live_at(new.updated_at)))
    assignments = renewed(dialect, given, lambda name: following if name == "version" else new[name])
    applied = c.version % _BLOCK == new.version % _BLOCK
    return dialect.upsert(insert, c.id, assignments, condition, applied, (c.id, *RECORD) if returning else ())


_IF_MATCH = bindparam("p_if_match", type_=BigInteger())
_BLOCK: ColumnElement[int] = literal_column(str(BLOCK))


def _below(dialect: Dialect, version: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a small write of a version applies to a row."""
    return and_(INLINE, c.version < dialect.greatest(literal_column(str(CEILING)), version))


def _following(version: ColumnElement[int]) -> ColumnElement[int]:
    """The version after the row's, with the token of another."""
    return c.version - c.version % _BLOCK + _BLOCK + version % _BLOCK


@lru_cache
def rewrite(dialect: Dialect, *, conditional: bool) -> Executable:
    """What a write does without options to a live session, if the hour of its expiry comes no earlier; else nothing.

    It leaves alone what such a write keeps, above all the columns that are in an index.

    Args:
        dialect: The database.
        conditional: Whether it is that of `conditional`, and not of `upsert`.
    """
    now = parameter("updated_at")
    expires_at = _least(dialect, _NEVER, now + c.ttl, c.ends_at)
    no_bucket: ColumnElement[int] = literal_column(str(_NO_BUCKET))
    hour = func.coalesce(dialect.hour(expires_at), no_bucket)
    version = parameter("version")
    applies = and_(INLINE, c.version == _IF_MATCH) if conditional else _below(dialect, version)
    values = {
        "version": version if conditional else _following(version),
        "data": parameter("data"),
        "size": parameter("size"),
        "updated_at": dialect.greatest(now, c.created_at + literal_column("1")),
        "expires_at": expires_at,
    }
    same = c.id == parameter("id")
    late = func.coalesce(c.expires_bucket, no_bucket) <= hour
    where = and_(same, live_at(now), applies, late)
    return update(sessions).where(where).values(values).returning(c.id, *RECORD)


@lru_cache
def conditional(dialect: Dialect, given: ExplicitOptions, *, returning: bool = True) -> Executable:
    """Write a small session over a small one of a version. Returns a row only if it wrote, if it is to return any."""
    statement = update(sessions).where(
        c.id == parameter("id"),
        c.version == _IF_MATCH,
        live_at(parameter("updated_at")),
        INLINE,
    )
    values = ((c[name], value) for name, value in renewed(dialect, given, parameter, lives=True))
    statement = statement.ordered_values(*values)
    return statement.returning(c.id, *RECORD) if returning else statement


def renewed(
    dialect: Dialect,
    given: ExplicitOptions,
    new: Callable[[str], ColumnElement[Any]],
    *,
    lives: bool = False,
) -> list[tuple[str, ColumnElement[Any]]]:
    """`records.written` in SQL: what a write assigns to each column of a row that exists, if not what it has.

    In this order even a database that assigns from left to right, seeing the new values, gets it
    right: ``expires_at``, which tells whether the old session lives, comes last. ``touched_at`` stays: that of an old
    session is before the write. Labels are written in transactions alone.

    Args:
        dialect: The database.
        given: The options that are given.
        new: The values of the session as if it were new, by column.
        lives: Whether the old session is known to live.
    """
    live = live_at(new("updated_at"))

    def if_live(then: ColumnElement[Any], otherwise: ColumnElement[Any]) -> ColumnElement[Any]:
        return then if lives else case((live, then), else_=otherwise)

    def kept(name: str, *, unless: bool) -> ColumnElement[Any]:
        return new(name) if unless else if_live(c[name], new(name))

    def earlier(never: int, one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
        if not lives:
            return _least(dialect, never, one, other)
        # MariaDB's Spider garbles the NULLIF of an UPDATE.
        return dialect.least(func.coalesce(one, other), func.coalesce(other, one))  # type: ignore[no-any-return]

    rewritten = dialect.greatest(new("updated_at"), c.created_at + literal_column("1"))
    ttl = kept("ttl", unless=given.ttl)
    if given.max_age:
        age = new("ends_at") - new("created_at")
        ends_at = if_live(c.created_at + age, new("ends_at"))
    else:
        ends_at = kept("ends_at", unless=False)
    expires_at = earlier(_NEVER, new("updated_at") + ttl, ends_at)
    values = [
        ("version", new("version")),
        ("size", new("size")),
        ("subject", kept("subject", unless=given.subject)),
        ("client", new("client") if given.client else if_live(c.client, null())),
        ("labels", if_live(c.labels, null())),
        ("updated_at", if_live(rewritten, new("updated_at"))),
        ("ttl", ttl),
        ("ends_at", ends_at),
        ("created_at", kept("created_at", unless=False)),
        ("expires_bucket", earlier(_NO_BUCKET, c.expires_bucket, dialect.hour(expires_at))),
        ("data", new("data")),
        ("expires_at", expires_at),
    ]
    return [(name, value) for name, value in values if value is not c[name]]


def _least(dialect: Dialect, never: int, *times: ColumnElement[Any]) -> ColumnElement[Any]:
    """The earliest of some times, of which NULL is never."""
    endless: ColumnElement[int] = literal_column(str(never))
    return func.nullif(dialect.least(*(func.coalesce(time, endless) for time in times)), endless)
