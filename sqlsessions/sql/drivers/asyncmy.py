"""asyncmy and aiomysql without SQLAlchemy in between: the transaction of a batch is one packet, and one round trip.

The server carries out the statements of a packet one after the other, until one fails. So no lock is held while the
client does something else, and a COMMIT is the last thing that is done, if all else was.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import cache, partial
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Executable,
    LargeBinary,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
)

from ..._validation import RESERVED
from ...records import Record
from ..batching.driver import Chunk, Chunks, Driver
from ..batching.operations import (
    ABSENT,
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
from ..dialects import ErrorKind
from ..dialects.mysql_session import STATEMENT_SIZE
from ..engine.database import Database
from ..engine.watchdog import Stalled
from ..models import chunks, ends, sessions
from ..statements.single import (
    CHUNKED,
    INLINE,
    PARTS,
    READ_CHUNKS,
    RECORD,
    TOUCHING,
    WRITE_CHUNK,
    ExplicitOptions,
    live_at,
    parameter,
    part_of,
    rewriting,
    touch,
    upsert,
    written_columns,
)

c = sessions.c

SILENCE = 2.0
"""Seconds, more than a statement waits for a lock, after which a packet that does not go on is given up."""

Literal = Callable[[Any], str]
"""Gives a value as the text of a statement has it."""

Answer = tuple[Sequence[Row], int]
"""Of a statement: its rows, and how many rows it changed or would have changed to what they are."""

Insert = tuple[str, str, str]
"""The text of an INSERT before its rows, that of a row, and the text after them."""

_NOW = bindparam("p_now", type_=BigInteger())
_TOMBSTONE = bindparam("p_tombstone", type_=chunks.c.seq.type)
_BURIED = exists().where(
    chunks.c.version == literal_column("0"),
    chunks.c.id == parameter("id"),
    chunks.c.seq == _TOMBSTONE,
)
"""Whether a session has its tombstone, and so is locked, and ends."""

_IDS = "sessions.id IN (%s)"


class Statement(NamedTuple):
    """A statement as the drivers take it.

    Attributes:
        text: With a ``%s`` for each value.
        places: Where each value is in the row of values that the statement is given.
    """

    text: str
    places: tuple[int, ...]

    def of(self, literal: Literal, values: Sequence[Any]) -> str:
        """The statement with its values."""
        return self.text % tuple([literal(values[place]) for place in self.places])


class AsyncmyDriver(Driver[Any]):
    """BatchExecutor over the own connections of asyncmy and aiomysql, taken from SQLAlchemy's pool."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._statement = cache(self._compiled)
        self._upsert = cache(self._upsert_parts)
        self._overwriting = cache(self._overwriting_parts)
        self._begin = self._dialect.begin_own or self._dialect.begin

    @property
    def _returning(self) -> bool:
        """Whether INSERT has a RETURNING.

        Without it, it is MySQL, where two INSERTs that wait for the same end of a session can deadlock: one that is likely to
        be there is locked or updated first, and if it is not there, it is left to a transaction of its own.
        """
        returning: bool = self._database.engine.dialect.insert_returning
        return returning

    def checkout(self, *, writes: bool) -> AbstractAsyncContextManager[Any]:
        return self._database.driver_connection(writes=writes)

    async def read(self, connection: Any, reads: Sequence[Read]) -> list[Row | None]:
        part = part_of(map(_PART, reads))
        [(rows, _)] = await self.send(connection, [self._select(connection, reads, part)])
        return matched(reads, rows)

    async def write(self, connection: Any, changes: Sequence[Operation]) -> list[Any]:
        kinds = grouped(changes)
        if len(kinds) == 1 and makes_row(changes[0]):
            written = await self._write(connection, *kinds[0])
        else:
            written = await self._change(connection, changes)
        return [written.get(change.digest) for change in changes]

    async def read_chunks(self, connection: Any, wanted: Chunks) -> Sequence[Row]:
        statement = self._statement("read_chunks").of(literal_of(connection), wanted.values)
        [(rows, _)] = await self.send(connection, [statement])
        return rows

    async def write_chunk(self, connection: Any, chunk: Chunk) -> None:
        statement = self._statement("write_chunk").of(literal_of(connection), chunk.values)
        await self.send(connection, [statement])

    async def send(self, connection: Any, statements: Sequence[str]) -> list[Answer]:
        """Send statements in one packet, and give what the server answers to each."""
        answers: list[Answer] = []
        # After a KILL QUERY that comes between two statements, a server leaves the packet, with its locks, and does not say
        # so. Only the COMMIT may take as long as all operations may.
        expected = len(statements) - (statements[-1] == "COMMIT")
        cut = partial(self._dialect.cut, connection)
        with Stalled(answers, expected, SILENCE, cut) if expected > 1 else nullcontext():
            async with connection.cursor() as cursor:
                await cursor.execute("; ".join(statements))
                while True:
                    answers.append((await cursor.fetchall(), cursor.rowcount))
                    if not await cursor.nextset():
                        break
        if len(answers) < len(statements):
            cut()  # its transaction is open
            raise ConnectionResetError("the server has left a packet before its end")
        return answers

    async def _transaction(self, connection: Any, statements: Sequence[str]) -> list[Answer]:
        """Send statements as a transaction, in one packet if they are not too long for one."""
        async with self._whole(connection):
            return (await self._send_all(connection, [*self._begin, *statements, "COMMIT"]))[
                len(self._begin) : -1
            ]

    async def _send_all(self, connection: Any, statements: Sequence[str]) -> list[Answer]:
        return [answer for packet in _packets(statements) for answer in await self.send(connection, packet)]

    @asynccontextmanager
    async def _whole(self, connection: Any) -> AsyncIterator[None]:
        """Roll back what the block has begun if it fails."""
        try:
            yield
        except Exception as error:
            if self._dialect.error_kind(error) is not ErrorKind.LOST:
                await self._roll_back(connection)
            raise

    async def _roll_back(self, connection: Any) -> None:
        try:
            await self.send(connection, ["ROLLBACK"])
        except Exception:  # noqa: BLE001 (the first error is the one to report)
            with suppress(Exception):
                connection.close()  # so that the pool has it no more

    async def _write(self, connection: Any, kind: Kind, members: list[Any]) -> dict[bytes, Any]:
        """Make writes of one kind that may make sessions, in the order of the ids."""
        _, given, if_match = kind
        returning = self._returning
        if not returning and (seen := [write for write in members if write.rewrites]):
            return await (self._overwrite if len(seen) > 1 else self._change)(connection, seen)
        statements = self._inserts(connection, self._upsert(given, if_match is False, returning), members)
        if returning and len(statements) == 1:  # which commits by itself
            answers = await self.send(connection, statements)
        elif returning:
            answers = await self._transaction(connection, statements)
        else:
            statements.append(self._select(connection, members, "record"))
            answers = (await self._transaction(connection, statements))[-1:]
        return {found[0]: found for rows, _ in answers for found in rows}

    async def _overwrite(self, connection: Any, writes: Sequence[Write]) -> dict[bytes, Any]:
        """Make writes over sessions that are there, which takes two packets."""
        async with self._whole(connection):
            lock = self._statement("lock").text % self._ids(connection, writes)
            [*_, (rows, _)] = await self.send(connection, [*self._begin, lock])
            there = {row[0]: row for row in rows}
            done = [
                write
                for write in writes
                if (row := there.get(write.digest)) and not row[1] and write.begin_over(Record(*row[2:]))
            ]
            statements = self._inserts(connection, self._overwriting(), done) if done else []
            await self._send_all(connection, [*statements, "COMMIT"])
        there = {digest: (digest, *row[2:]) for digest, row in there.items()}
        return there | {write.digest: _WRITTEN(write.row) for write in done}

    def _inserts(self, connection: Any, insert: Insert, writes: Sequence[Write]) -> list[str]:
        """The statements that insert the rows of writes."""
        head, row, tail = insert
        columns, literal = row.count("%s"), literal_of(connection)
        rows = [row % tuple(map(literal, write.row[:columns])) for write in writes]
        return [f"{head}{', '.join(some)}{tail}" for some in _packets(rows)]

    async def _change(self, connection: Any, changes: Sequence[Any]) -> dict[bytes, Any]:
        """Make changes of sessions that are there, one after the other.

        Each locks its own session alone, if that is there, and they do so in the order of the ids. Statements that lock
        all sessions first would not do: one that is made just then would be locked out of that order.
        """
        statements: list[str] = []
        places: dict[bytes, int] = {}
        literal = literal_of(connection)
        for change in sorted(changes, key=_DIGEST):
            places[change.digest] = len(statements)
            statements += self._changing(literal, change)
        told = [each for each in changes if isinstance(each, (Write, Touch))]
        if told:  # what was done, by the row
            statements.append(self._select(connection, told, "record"))
        if len(changes) == 1 and isinstance(changes[0], Touch):
            answers = await self.send(connection, statements)
        else:
            answers = await self._transaction(connection, statements)
        rows = {row[0]: row for row in answers[-1][0]} if told else {}
        results: dict[bytes, Any] = {}
        for change in changes:
            done = answers[places[change.digest]][1] > 0
            if isinstance(change, Write):
                absent = ABSENT if change.rewrites and self._returning else None
                results[change.digest] = rows.get(change.digest, absent)
            elif isinstance(change, Touch):
                results[change.digest] = rows.get(change.digest) if done else None
            else:
                results[change.digest] = done
        return results

    def _changing(self, literal: Literal, change: Any) -> list[str]:
        """The statements of a change, of which the first one tells whether it is made."""
        if isinstance(change, Touch):
            return [self._statement("touch", change.extending).of(literal, change.values)]
        if isinstance(change, Write):
            statement = self._statement("rewriting", change.given, bool(change.if_match))
            return [statement.of(literal, (*change.row, change.if_match))]
        names = ("tombstone", "keep", "delete") if isinstance(change, KeptDelete) else ("tombstone", "delete")
        values = (change.digest, change.tombstone, change.now, getattr(change, "reason", None))
        return [self._statement(name).of(literal, values) for name in names]

    def _select(self, connection: Any, operations: Iterable[Operation], part: Any) -> str:
        return self._statement(part).text % self._ids(connection, operations)

    def _ids(self, connection: Any, operations: Iterable[Operation]) -> str:
        digests = sorted({operation.digest for operation in operations})
        return ", ".join(map(literal_of(connection), digests))

    def _upsert_parts(self, given: ExplicitOptions, absent: bool, returning: bool) -> Insert:
        statement = upsert(self._dialect, given, absent=absent, returning=returning)
        return self._parts(statement, len(written_columns(client=given.client)))

    def _overwriting_parts(self) -> Insert:
        names = c.keys()
        insert = self._dialect.insert(sessions).values({name: parameter(name) for name in names})
        return self._parts(self._dialect.overwriting(insert, names[1:]), len(names))

    def _parts(self, statement: Any, columns: int) -> Insert:
        text = str(statement.compile(dialect=self._database.engine.dialect))
        row = f"({', '.join(['%s'] * columns)})"
        head, tail = text.split(row)
        return head % (), row, tail % ()

    def _compiled(self, name: Any, *arguments: Any) -> Statement:
        """A statement for the server that the engine has met."""
        statement, names = self._described(name, *arguments)
        compiled: Any = statement.compile(dialect=self._database.engine.dialect)
        text = str(compiled).replace("sessions.id = %s", _IDS) if name in _OF_IDS else str(compiled)
        places = tuple(names.index(each.removeprefix("p_")) for each in compiled.positiontup)
        return Statement(text, places)

    def _described(self, name: Any, *arguments: Any) -> tuple[Any, Sequence[str]]:
        """A statement, and the names of the values that it is given."""
        this, ending = c.id == parameter("id"), ("id", "tombstone", "now", "reason")
        statement: Any
        names: Sequence[str] = ("id",)
        match name:
            case "lock":
                statement = select(c.id, CHUNKED, *RECORD).where(this).order_by(c.id).with_for_update()
            case "touch":
                statement, names = touch(self._dialect, *arguments), (*TOUCHING,)
            case "rewriting":
                given, matching = arguments
                statement = rewriting(self._dialect, given, matching=matching)
                names = (*c.keys(), "if_match")
            case "tombstone":
                statement = _burying(self._dialect.stamp(), and_(this, INLINE, live_at(_NOW)))
                names = ending
            case "keep":
                statement, names = _keeping(and_(this, _BURIED)), ending
            case "delete":
                statement, names = delete(sessions).where(this, _BURIED), ending
            case "read_chunks":
                statement, names = READ_CHUNKS, Chunks.names
            case "write_chunk":
                statement, names = WRITE_CHUNK, Chunk.names
            case _:
                statement = select(*PARTS[name]).where(this)
        return statement, names


def literal_of(connection: Any) -> Literal:
    """What gives values as a connection takes them: bytes in hexadecimal, all else in the driver's own way.

    The drivers escape bytes one by one, which takes forty times as long where they are compressed or encrypted.
    """
    escaped: Literal = connection.literal

    def literal(value: Any) -> str:
        return f"x'{value.hex()}'" if isinstance(value, bytes) else escaped(value)

    return literal


def _eight_bytes(number: Any) -> Any:
    digits = func.lpad(func.hex(number), literal_column("16"), literal_column("'0'"))
    return func.unhex(digits, type_=LargeBinary())


def _burying(stamp: Any, ending: Any) -> Executable:
    """Leaves the tombstone of a session, which it locks."""
    data = func.concat(stamp, _eight_bytes(c.version), _eight_bytes(_NOW), type_=LargeBinary())
    gone = select(literal_column("0"), c.id, _TOMBSTONE, data).where(ending).with_for_update()
    return insert(chunks).from_select(["version", "id", "seq", "data"], gone)


def _keeping(ending: Any) -> Executable:
    """Keeps the records of sessions that end."""
    record = {
        "ended_at": _NOW,
        "reason": bindparam("p_reason", type_=ends.c.reason.type),
        "used_at": func.greatest(c.updated_at, func.coalesce(c.touched_at, c.updated_at)),
        **{name: c[name] for name in ("id", "version", "subject", "created_at", "client")},
    }
    of_session = or_(c.subject.is_(None), func.ascii(c.subject) != literal_column(str(ord(RESERVED))))
    return insert(ends).from_select([*record], select(*record.values()).where(ending, of_session))


def _packets(statements: Iterable[str]) -> Iterator[list[str]]:
    """Statements in their order, or rows of one, as many in a packet as it takes."""
    packet: list[str] = []
    held = 0
    for statement in statements:
        if packet and held + len(statement) > STATEMENT_SIZE:
            yield packet
            packet, held = [], 0
        packet.append(statement)
        held += len(statement)
    yield packet


_PART = attrgetter("part")
_DIGEST = attrgetter("digest")
_OF_IDS = ("lock", *PARTS)
_WRITTEN = itemgetter(0, *([*c.keys()].index(column.name) for column in RECORD))
"""Gives ``id, *RECORD`` of a row of all columns."""
