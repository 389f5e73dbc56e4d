"""The hot statements, built once for each database from the declared tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
from ...touching import SHARE
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


TOUCHING = {"id": c.id, "ttl": c.ttl, "now": c.updated_at, "every": c.ttl}
"""The values that a touch gives, and the columns that are of their types."""

Extending = Literal["own", "given", "nothing"]
"""What a touch extends a session by: its own idle timeout, another that it has from now on, or nothing."""

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
    condition, raised = applicable(dialect, new.version), following(new.version)
    if absent:
        condition = and_(condition, not_(live_at(new.updated_at)))
    assignments = renewed(dialect, given, lambda name: raised if name == "version" else new[name])
    applied = c.version % _BLOCK == new.version % _BLOCK
    return dialect.upsert(insert, c.id, assignments, condition, applied, (c.id, *RECORD) if returning else ())


_IF_MATCH = bindparam("p_if_match", type_=BigInteger())
_BLOCK: ColumnElement[int] = literal_column(str(BLOCK))


def applicable(dialect: Dialect, version: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether a small write of a version applies to a row."""
    return and_(INLINE, c.version < dialect.greatest(literal_column(str(CEILING)), version))


def following(version: ColumnElement[int]) -> ColumnElement[int]:
    """The version after the row's, with the token of another."""
    return c.version - c.version % _BLOCK + _BLOCK + version % _BLOCK


@lru_cache
def rewrite(dialect: Dialect, *, conditional: bool) -> Executable:
    """What a write does without options to a live session, if the hour of its expiry comes no earlier; else nothing.

    It leaves alone what such a write keeps, above all the columns that are in an index.

    Args:
        dialect: The database.
        conditional: Whether it is done on condition of a version; see `written_over`.
    """
    now = parameter("updated_at")
    expires_at = _least(dialect, _NEVER, now + c.ttl, c.ends_at)
    no_bucket: ColumnElement[int] = literal_column(str(_NO_BUCKET))
    hour = func.coalesce(dialect.hour(expires_at), no_bucket)
    version = parameter("version")
    applies = and_(INLINE, c.version == _IF_MATCH) if conditional else applicable(dialect, version)
    values = {
        "version": version if conditional else following(version),
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
def rewriting(dialect: Dialect, given: ExplicitOptions, *, matching: bool) -> Any:
    """Write a small session over a live small one; see `written_over`."""
    return written_over(
        dialect, given, parameter, c.id == parameter("id"), match=_IF_MATCH if matching else None
    )


def written_over(
    dialect: Dialect,
    given: ExplicitOptions,
    new: Callable[[str], ColumnElement[Any]],
    *same: ColumnElement[bool],
    match: ColumnElement[int] | None,
) -> Any:
    """An UPDATE that writes small sessions over small ones that live.

    Args:
        dialect: The database.
        given: The options that are given.
        new: The values of the sessions as if they were new, by column.
        same: Which sessions.
        match: The version that a session must have; if None, it must not be above the new one, or not by much.
    """
    version = new("version")
    wanted = applicable(dialect, version) if match is None else and_(INLINE, c.version == match)
    if match is None:
        version = following(version)
    values = renewed(dialect, given, lambda name: version if name == "version" else new(name), lives=True)
    statement = update(sessions).where(*same, wanted, live_at(new("updated_at")))
    return statement.ordered_values(*((c[name], value) for name, value in values))


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
        return _earlier(dialect, one, other)

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


@lru_cache
def touch(dialect: Dialect, extending: Extending) -> Any:
    """Touch a live session; see `touched`. Changes nothing if that is not worth it."""
    given = {name: bindparam(f"p_{name}", type_=column.type) for name, column in TOUCHING.items()}
    return touched(dialect, extending, given, c.id == given["id"])


def touched(
    dialect: Dialect,
    extending: Extending,
    given: Mapping[str, ColumnElement[Any]],
    *same: ColumnElement[bool],
) -> Any:
    """`Record.touched` in SQL: an UPDATE of sessions that live, if that is worth it.

    Of a database that assigns from left to right, what was assigned is not read any more.

    Args:
        dialect: The database.
        extending: What the touch extends a session by.
        given: The values of `TOUCHING`.
        same: Which sessions.
    """
    now, every = given["now"], given["every"]
    used_at = dialect.greatest(c.updated_at, func.coalesce(c.touched_at, c.updated_at))
    due = now - used_at >= every
    values = [("touched_at", dialect.greatest(now, used_at))]
    if extending == "nothing":
        return update(sessions).where(*same, live_at(now), due).ordered_values(*values)
    idle = given["ttl"] if extending == "given" else c.ttl
    end = _earlier(dialect, now + idle, c.ends_at)
    later = or_(end.is_(None), end > c.expires_at)  # of a session that ends at all
    gains = or_(end.is_(None), idle.is_(None), (end - c.expires_at) * literal_column(str(SHARE)) >= idle)
    worth = and_(c.expires_at.is_not(None), later, gains)
    if extending == "own":
        ends = case((worth, end), else_=c.expires_at)
    else:
        other = c.ttl.is_distinct_from(idle)
        ends = case((and_(later, or_(worth, other)), end), else_=c.expires_at)
        worth = or_(worth, other)
        values.append(("ttl", idle))
        same = (*same, or_(c.touched_at.is_(None), c.touched_at <= now))  # else it comes after a later one
    values.insert(0, ("expires_at", ends))
    return update(sessions).where(*same, live_at(now), or_(worth, due)).ordered_values(*values)


def _earlier(dialect: Dialect, one: ColumnElement[Any], other: ColumnElement[Any]) -> ColumnElement[Any]:
    """The earlier of two times, of which NULL is never; without a NULLIF, which MariaDB's Spider garbles."""
    return dialect.least(func.coalesce(one, other), func.coalesce(other, one))  # type: ignore[no-any-return]


def _least(dialect: Dialect, never: int, *times: ColumnElement[Any]) -> ColumnElement[Any]:
    """The earliest of some times, of which NULL is never."""
    endless: ColumnElement[int] = literal_column(str(never))
    return func.nullif(dialect.least(*(func.coalesce(time, endless) for time in times)), endless)
