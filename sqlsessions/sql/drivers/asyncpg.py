"""asyncpg without SQLAlchemy in between: one statement for a batch, its values in arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    String,
    and_,
    any_,
    bindparam,
    cast,
    column,
    delete,
    func,
    insert,
    literal_column,
    null,
    or_,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.asyncpg import dialect

from ..._validation import RESERVED
from ..batching.driver import Chunk, Chunks, Driver
from ..batching.operations import (
    ABSENT,
    Delete,
    KeptDelete,
    Kind,
    Operation,
    Read,
    Row,
    Touch,
    Write,
    grouped,
    makes_row,
    matched,
)
from ..dialects import DIALECTS
from ..engine.database import Database
from ..models import chunks, ends, sessions
from ..statements.single import (
    INLINE,
    PARTS,
    READ_CHUNKS,
    RECORD,
    TOUCHING,
    WRITE_CHUNK,
    ExplicitOptions,
    Extending,
    Part,
    live_at,
    over,
    part_of,
    rewriting,
    touch,
    touched,
    upsert,
    written_columns,
    written_over,
)

c = sessions.c

Ordered = tuple[str, Callable[[Sequence[Any]], tuple[Any, ...]]]
"""A statement, and what puts its values into the order of its parameters."""

WRITTEN: dict[bool, dict[str, Column[Any]]] = {
    client: {name: c[name] for name in written_columns(client=client)} for client in (False, True)
}
CONDITIONAL = {client: columns | {"if_match": c.version} for client, columns in WRITTEN.items()}
ROW = (*c.keys(), "if_match")
ENDED = {"id": c.id, "tombstone": chunks.c.seq, "now": c.updated_at}
KEPT = ENDED | {"reason": ends.c.reason}
DIFFERENT_TOUCHES = ("id", "ttl")
"""In which touches of a batch may differ: they have one time, and come from one storage."""


class AsyncpgDriver(Driver[Any]):
    """BatchExecutor over asyncpg's own connections, taken from SQLAlchemy's pool."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._durable_touches = database.engines.settings.durable_touches
        self._upsert = cache(self._upsert_statement)
        self._upsert_many = cache(self._upsert_many_statement)
        self._conditional = cache(self._conditional_statement)
        self._several = cache(self._several_statement)
        self._touch = cache(self._touch_statement)
        self._touch_many = cache(self._touch_many_statement)

    def checkout(self, *, writes: bool) -> AbstractAsyncContextManager[Any]:
        return self._database.driver_connection(writes=writes)

    async def read(self, connection: Any, reads: Sequence[Read]) -> list[Row | None]:
        if len(reads) == 1:
            return [await connection.fetchrow(_SELECT_ONE[reads[0].part], reads[0].digest)]
        part = part_of(map(_PART, reads))
        rows = await connection.fetch(_SELECT[part], list({read.digest for read in reads}))
        return matched(reads, rows)

    async def write(self, connection: Any, changes: Sequence[Operation]) -> list[Any]:
        if len(changes) == 1:
            return [await self._change_one(connection, changes[0])]
        groups = grouped(changes)
        kind, members = groups[0]
        several = len(groups) > 1 or (kind[0] is Write and not makes_row(members[0]))
        rows = await (
            self._change_all(connection, groups) if several else self._change(connection, kind, members)
        )
        results: dict[bytes, Any] = {row[0]: row for row in rows}
        if several:
            for change in changes:
                if makes_row(change):
                    results.setdefault(change.digest, ABSENT)
        return [
            change.digest in results if isinstance(change, Delete) else results.get(change.digest)
            for change in changes
        ]

    async def read_chunks(self, connection: Any, wanted: Chunks) -> Sequence[Row]:
        return await connection.fetch(_READ_CHUNKS, *wanted.values)  # type: ignore[no-any-return]

    async def write_chunk(self, connection: Any, chunk: Chunk) -> None:
        await connection.fetch(_WRITE_CHUNK, *chunk.values)

    async def _change_one(self, connection: Any, change: Any) -> Any:
        if isinstance(change, Write):
            if change.if_match:
                statement, ordered = self._conditional(change.given)
            else:
                statement, ordered = self._upsert(change.given, change.if_match == 0)
            return await connection.fetchrow(statement, *ordered((*change.row, change.if_match)))
        if isinstance(change, Touch):
            statement, ordered = self._touch(change.extending)
            return await connection.fetchrow(statement, *ordered(change.values))
        kept = isinstance(change, KeptDelete)
        return await connection.fetchrow(_DELETE[False, kept], *_ending(change, kept)) is not None

    async def _change(self, connection: Any, kind: Any, members: list[Any]) -> list[Any]:
        if kind[0] is Write:
            _, given, if_match = kind
            statement, ordered = self._upsert_many(given, if_match is False)
        elif kind[0] is Touch:
            statement, ordered = self._touch_many(kind[1])
        else:
            return await connection.fetch(_DELETE[True, kind[0] is KeptDelete], *_columns(kind, members))  # type: ignore[no-any-return]
        return await connection.fetch(statement, *ordered(_columns(kind, members)))  # type: ignore[no-any-return]

    async def _change_all(self, connection: Any, groups: list[tuple[Any, list[Any]]]) -> list[Any]:
        """Make changes of sessions that are there, of any kinds, by one statement: no lock outlasts a round trip."""
        groups.sort(key=lambda group: repr(group[0]))  # so that there are few statements
        ids = sorted(change.digest for _, members in groups for change in members)
        columns = [column for kind, members in groups for column in _columns(kind, members)]
        statement, ordered = self._several(tuple(kind for kind, _ in groups))
        return await connection.fetch(statement, *ordered([ids, *columns]))  # type: ignore[no-any-return]

    def _upsert_statement(self, given: ExplicitOptions, absent: bool) -> Ordered:
        return _ordered(upsert(self._dialect, given, absent=absent), ROW)

    def _upsert_many_statement(self, given: ExplicitOptions, absent: bool) -> Ordered:
        columns = WRITTEN[given.client]
        new = _rows(columns, given)
        insert = self._dialect.insert(sessions).from_select([*new], select(*new.values()))
        return _ordered(over(self._dialect, insert, given, absent=absent), columns)

    def _conditional_statement(self, given: ExplicitOptions) -> Ordered:
        statement = rewriting(self._dialect, given, matching=True).returning(c.id, *RECORD)
        return _ordered(statement, ROW)

    def _touch_statement(self, extending: Extending) -> Ordered:
        return _ordered(self._durable(touch(self._dialect, extending).returning(c.id, *RECORD)), TOUCHING)

    def _touch_many_statement(self, extending: Extending) -> Ordered:
        new = _touching(extending)
        return _ordered(self._durable(self._touched(new, extending, _same(new["id"], lock=True))), TOUCHING)

    def _durable(self, touch: Any) -> Any:
        return touch if self._durable_touches else self._dialect.not_durable(touch)

    def _touched(self, new: Mapping[str, ColumnElement[Any]], extending: Extending, same: Any) -> Any:
        return touched(self._dialect, extending, new, same).returning(c.id, *RECORD)

    def _several_statement(self, kinds: tuple[Kind, ...]) -> Ordered:
        """A statement for changes of some kinds; of the ids of all, and the columns of each.

        It returns the id of what was ended, a row of what was touched, and for each write whose session is there: as
        written, or else as it is.
        """
        locked = _locking(*RECORD).cte("locked")
        names, results = ["id"], []
        for number, kind in enumerate(kinds):
            suffix = f"_{number}"
            if kind[0] is Write:
                _, given, if_match = kind
                columns = CONDITIONAL[given.client] if if_match else WRITTEN[given.client]
                new = _rows(columns, given, suffix)
                match = new["if_match"] if if_match else None
                same = _one_of(locked, new["id"])
                done = written_over(self._dialect, given, new.__getitem__, same, match=match).returning(
                    c.id, *RECORD
                )
            elif kind[0] is Touch:
                columns = TOUCHING
                new = _touching(kind[1], suffix)
                done = self._touched(new, kind[1], _one_of(locked, new["id"]))
            else:
                kept = kind[0] is KeptDelete
                columns = KEPT if kept else ENDED
                ending = _arrays(columns, suffix)
                done = _ended(ending, _one_of(locked, ending.c.id), f"gone{suffix}", kept=kept)
            names += [name + suffix for name in columns]
            row = done.cte(f"done_{number}").c
            if kind[0] is Write:
                others = locked.c.id.in_(select(new["id"])), locked.c.id.not_in(select(row.id))
                results.append(select(*map(locked.c.get, _RESULT)).where(*others))
            if "version" in row:
                results.append(select(*map(row.get, _RESULT)))
            else:
                results.append(select(row.id, *(cast(null(), column.type) for column in RECORD)))
        return _ordered(union_all(*results), names)


def _columns(kind: Kind, members: list[Any]) -> list[Any]:
    """The values of changes of a kind, column by column; of columns in which they are the same, one."""
    if kind[0] is Write:
        _, given, if_match = kind
        different: Collection[str] = _different(given)
        names = [*WRITTEN[given.client]]
        rows = zip(*(change.row[: len(names)] for change in members), strict=True)
    elif kind[0] is Touch:
        if_match, different, names = None, DIFFERENT_TOUCHES, [*TOUCHING]
        rows = zip(*(change.values for change in members), strict=True)
    else:
        return list(zip(*(_ending(change, kind[0] is KeptDelete) for change in members), strict=True))
    values = [column if name in different else column[0] for name, column in zip(names, rows, strict=True)]
    return [*values, [change.if_match for change in members]] if if_match else values


def _ending(change: Any, kept: bool) -> tuple[Any, ...]:
    """The values of an end."""
    ending = change.digest, change.tombstone, change.now
    return (*ending, change.reason) if kept else ending


@cache
def _different(given: ExplicitOptions) -> frozenset[str]:
    """The columns in which writes of a batch may differ: they have one time, and the defaults of one storage."""
    names = {"id", "version", "data", "size", "if_match"}
    if given.subject:
        names.add("subject")
    if given.client:
        names.add("client")
    if given.ttl:
        names |= {"ttl", "expires_at", "expires_bucket"}
    if given.max_age:
        names |= {"ends_at", "expires_at", "expires_bucket"}
    return frozenset(names)


def _rows(
    columns: Mapping[str, Column[Any]], given: ExplicitOptions, suffix: str = ""
) -> dict[str, ColumnElement[Any]]:
    """The columns of new rows."""
    return _table(columns, _different(given), suffix)


def _touching(extending: Extending, suffix: str = "") -> dict[str, ColumnElement[Any]]:
    """The values of touches."""
    return _table(TOUCHING, DIFFERENT_TOUCHES if extending == "given" else ("id",), suffix)


def _table(
    columns: Mapping[str, Column[Any]], different: Collection[str], suffix: str
) -> dict[str, ColumnElement[Any]]:
    """The columns of a table: of those in which its rows may differ one array each, of the others one value."""
    arrays = _arrays({name: column for name, column in columns.items() if name in different}, suffix)
    return {
        name: arrays.c[name]
        if name in different
        else bindparam(f"p_{name}{suffix}", type_=_plain(column.type))
        for name, column in columns.items()
    }


def _arrays(columns: Mapping[str, Column[Any]], suffix: str = "") -> Any:
    """A table whose columns are given as one array each."""
    arrays = (bindparam(f"p_{name}{suffix}", type_=ARRAY(_plain(col.type))) for name, col in columns.items())
    typed = (column(name, col.type) for name, col in columns.items())
    return func.unnest(*arrays).table_valued(*typed, name=f"new{suffix}").render_derived()


def _values(columns: Mapping[str, Column[Any]]) -> Any:
    """A table of one row, whose values are given."""
    values = (bindparam(f"p_{name}", type_=_plain(col.type)).label(name) for name, col in columns.items())
    return select(*values).subquery("new")


def _same(id: Any, *, lock: bool) -> Any:
    """Whether a row is one of a table of arrays.

    All that locks several rows does so in the order of their ids, and so cannot deadlock. In which order a join
    would lock them is the planner's affair, so that they are locked before if that was not done yet.
    """
    return _one_of(_locking().cte("locked"), id) if lock else c.id == id


def _one_of(locked: Any, id: Any) -> Any:
    """Whether a row is that of an id, and one of those that are locked already."""
    return and_(c.id == id, c.id.in_(select(locked.c.id)))


def _locking(*columns: Column[Any]) -> Any:
    ids = bindparam("p_id", type_=ARRAY(c.id.type))
    return select(c.id, *columns).where(c.id == any_(ids)).order_by(c.id).with_for_update()


def _plain(type_: Any) -> Any:
    """A type without a collation, which an array has no use for."""
    return String() if isinstance(type_, String) else type_


def _ordered(statement: Any, names: Iterable[str]) -> Ordered:
    """A statement as asyncpg takes it, and what puts values in the order of the names into that of its parameters."""
    compiled = statement.compile(dialect=dialect())  # type: ignore[no-untyped-call]
    places = [f"p_{name}" for name in names]
    return str(compiled), itemgetter(*(places.index(name) for name in compiled.positiontup))


def _sql(statement: Any, names: Iterable[str] = ("id",)) -> str:
    """A statement as asyncpg takes it, its parameters numbered in the order of the names."""
    compiled = statement.compile(dialect=dialect())  # type: ignore[no-untyped-call]
    assert compiled.positiontup == [f"p_{name}" for name in names], compiled.positiontup
    return str(compiled)


def _select(part: Part, *, many: bool) -> str:
    ids = bindparam("p_id", type_=ARRAY(c.id.type) if many else c.id.type)
    return _sql(select(*PARTS[part]).where(c.id == (any_(ids) if many else ids)))


def _ended(ending: Any, same: Any, name: str, *, kept: bool) -> Any:
    columns = (*RECORD, ending.c.reason) if kept else (c.version,)
    gone = (
        delete(sessions)
        .where(same, INLINE, live_at(ending.c.now))
        .returning(c.id, ending.c.tombstone, ending.c.now, *columns)
        .cte(name)
    )
    data = (
        DIALECTS["postgresql"].stamp().concat(func.int8send(gone.c.version)).concat(func.int8send(gone.c.now))
    )
    tombstone = select(literal_column("0"), gone.c.id, gone.c.tombstone, data)
    left = insert(chunks).from_select(["version", "id", "seq", "data"], tombstone).returning(chunks.c.id)
    return left.add_cte(_kept(gone.c).cte(f"{name}_kept")) if kept else left


def _kept(gone: Any) -> Any:
    """Keeps the records of sessions that ended."""
    record = {
        "ended_at": gone.now,
        "used_at": func.greatest(gone.updated_at, gone.touched_at),  # which leaves out NULL
        **{name: gone[name] for name in ("id", "version", "reason", "subject", "created_at", "client")},
    }
    of_session = or_(gone.subject.is_(None), func.ascii(gone.subject) != literal_column(str(ord(RESERVED))))
    return insert(ends).from_select([*record], select(*record.values()).where(of_session))


def _delete(*, many: bool, kept: bool) -> str:
    columns = KEPT if kept else ENDED
    ending = _arrays(columns) if many else _values(columns)
    return _sql(_ended(ending, _same(ending.c.id, lock=many), "gone", kept=kept), columns)


_PART = attrgetter("part")
_RESULT = ["id", *(column.name for column in RECORD)]
_SELECT_ONE = {part: _select(part, many=False) for part in PARTS}
_SELECT = {part: _select(part, many=True) for part in PARTS}
_READ_CHUNKS = _sql(READ_CHUNKS, Chunks.names)
_WRITE_CHUNK = _sql(WRITE_CHUNK, Chunk.names)
_DELETE = {(many, kept): _delete(many=many, kept=kept) for many in (False, True) for kept in (False, True)}
