"""Operations on single sessions, as they are queued and sent in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from ..statements.single import ExplicitOptions

Row = Sequence[Any]


class Operation:
    """One operation on one session, on its way to the database.

    Attributes:
        digest: The session.
        future: Gets the result.
        batch_done: Done when the batch that carries it is; None while it waits.
        size: Bytes of its data.
        in_doubt: Whether the reply to a batch with it was lost: it may have taken effect, or yet will.
    """

    __slots__ = ("batch_done", "digest", "future", "in_doubt")

    size = 0

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.batch_done: asyncio.Future[None] | None = None
        self.in_doubt = False


class Read(Operation):
    """Gives the row of a session, live or not, as ``id, *RECORD`` and perhaps the data; or None."""

    __slots__ = ("data",)

    def __init__(self, digest: bytes, *, data: bool) -> None:
        super().__init__(digest)
        self.data = data


class Write(Operation):
    """Writes a small session over a small one, or where there is none.

    Gives ``id, *RECORD`` as written; None if it did not write, because the old session is chunked, the
    condition does not hold, or the database cannot do it in one statement.

    Attributes:
        row: Values of all columns, in their order.
        given: The options that are given.
        if_match: The condition.
    """

    __slots__ = ("given", "if_match", "row", "size")

    def __init__(self, row: tuple[Any, ...], given: ExplicitOptions, if_match: int | None, size: int) -> None:
        super().__init__(row[0])
        self.size = size
        self.row = row
        self.given = given
        self.if_match = if_match

    @property
    def version(self) -> int:
        """The version that it writes."""
        version: int = self.row[1]
        return version


class Touch(Operation):
    """Writes an expiry; gives whether it did: not if the session changed since it was read.

    Attributes:
        values: The id, version and expiry that were seen, the new idle timeout and expiry.
    """

    __slots__ = ("values",)
    names = ("id", "version", "seen", "ttl", "expires_at")

    def __init__(self, values: tuple[bytes, int, int | None, int | None, int | None]) -> None:
        super().__init__(values[0])
        self.values = values

    @property
    def parameters(self) -> dict[str, Any]:
        """The values as parameters of a statement."""
        return {f"p_{name}": value for name, value in zip(self.names, self.values, strict=True)}


class Delete(Operation):
    """Ends a live session that is not chunked, leaving a tombstone; gives whether it did.

    Attributes:
        version: Of the tombstone.
        now: The time.
    """

    __slots__ = ("now", "version")

    def __init__(self, digest: bytes, version: int, now: int) -> None:
        super().__init__(digest)
        self.version = version
        self.now = now


def grouped(changes: Iterable[Operation]) -> list[tuple[Any, list[Any]]]:
    """Changes that one statement can make together, by what that statement is; each by id.

    The statement is determined by the class, and for a write by the options that are given and whether it
    is conditional on a version (True), on there being no session (False), or not at all (None).
    """
    groups: dict[Any, list[Any]] = {}
    for change in sorted(changes, key=lambda change: change.digest):
        kind: Any = type(change)
        if isinstance(change, Write):
            kind = (Write, change.given, None if change.if_match is None else change.if_match > 0)
        groups.setdefault(kind, []).append(change)
    return list(groups.items())


def matched(operations: Iterable[Operation], rows: Iterable[Row]) -> list[Row | None]:
    """Rows that begin with their id, in the order of the operations."""
    found = {row[0]: row for row in rows}
    return [found.get(operation.digest) for operation in operations]
