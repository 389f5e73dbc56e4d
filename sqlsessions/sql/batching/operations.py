"""Operations on single sessions, as they are queued and sent in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from time import monotonic
from typing import Any

from ..._versions import is_below, is_same_write, next_version
from ...info import EndReason
from ...records import Record
from ..statements.single import ExplicitOptions, Part

Row = Sequence[Any]


class Operation:
    """One operation on one session, on its way to the database.

    Attributes:
        aside: Whether it waits beside the queue for a row that another transaction has locked.
        digest: The session.
        future: Gets the result; the queue makes it.
        batch_done: Done when the batch that carries it is; None while it waits.
        size: Bytes of its data.
        in_doubt: Whether the reply to a batch with it was lost: it may have taken effect, or yet will.
        carried: Whether its batch has ended.
        kept: Whether its turn lasts until its caller leaves the queue.
        sent: Whether it is under way over a connection.
        submitted: When it was called, by `time.monotonic`.
    """

    __slots__ = (
        "aside",
        "batch_done",
        "carried",
        "digest",
        "future",
        "in_doubt",
        "kept",
        "sent",
        "submitted",
    )

    size = 0
    future: asyncio.Future[Any]

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.batch_done: asyncio.Future[None] | None = None
        self.in_doubt = False
        self.aside = self.carried = self.kept = self.sent = False
        self.submitted = monotonic()

    def begin(self, now: int) -> bool:  # noqa: ARG002 (of those that change something)
        """Set the time of the attempt that begins; whether there is something to do yet."""
        return True


class Turn(Operation):
    """Sends nothing: while it is kept, no later operation on the session takes effect."""

    __slots__ = ()

    def __init__(self, digest: bytes) -> None:
        super().__init__(digest)
        self.carried = True


class Read(Operation):
    """Gives the row of a session, live or not, with the columns of a part, or of all; or None."""

    __slots__ = ("part",)

    def __init__(self, digest: bytes, part: Part) -> None:
        Operation.__init__(self, digest)  # which super() would make slower
        self.part: Part = part


class Write(Operation):
    """Writes a small session over a small one, or where there is none.

    Gives ``id, *RECORD`` as written. If it did not write, because the old session is chunked, the condition does not
    hold, or the database cannot do it in one statement, that is the session as it is, or None where nobody has looked:
    its caller gets None, and it is kept, unless the session shows that there is a conflict.

    Args:
        digest: The session.
        version: The version that it writes where there is no session or on a condition, else one with its token.
        row_at: Gives the values of all columns, in their order, of a write at a time; of one over a session, from that
            and the version.
        given: The options that are given.
        if_match: The condition.
        size: Bytes of the data.

    Attributes:
        row: The values, once an attempt has begun, of a new session unless one is known.
        now: The time of the attempt.
        before: The version that the session was last seen with, before the write was sent.
    """

    __slots__ = ("before", "given", "if_match", "now", "row", "row_at", "size", "version")

    def __init__(
        self,
        digest: bytes,
        version: int,
        row_at: Callable[..., tuple[Any, ...]],
        given: ExplicitOptions,
        if_match: int | None,
        size: int,
    ) -> None:
        super().__init__(digest)
        self.version = version
        self.row_at = row_at
        self.row: tuple[Any, ...] = ()
        self.now = 0
        self.given = given
        self.if_match = if_match
        self.size = size
        self.before: int | None = None

    def begin(self, now: int) -> bool:
        """See `Operation.begin`."""
        self.now = now
        self.row = self.row_at(now)
        return True

    def begin_over(self, old: Record) -> bool:
        """Set the values of a write over a small session that is locked, if it applies to that; whether it does."""
        if not old.live(self.now):
            return False
        if self.if_match:
            if old.version != self.if_match:
                return False
            self.row = self.row_at(self.now, old)
            return True
        if not is_below(old.version, self.version) or is_same_write(old.version, self.version):
            return False
        self.row = self.row_at(self.now, old, next_version(old.version, self.version))
        return True

    def conflicts(self, version: int) -> bool:
        """Whether the condition cannot hold, since the session has a version that another write made."""
        return bool(self.if_match) and version != self.if_match and not self.in_doubt

    @property
    def rewrites(self) -> bool:
        """Whether it is a write without a condition of a session that was there lately."""
        return self.if_match is None and self.before is not None

    @property
    def known(self) -> list[int]:
        """Versions of which the session had one just before the write, if it was there."""
        known = [self.if_match, self.before]
        return [version for version in known if version]


class Touch(Operation):
    """Writes an expiry and a use; gives whether it did.

    It does not if the session changed since it was read, unless that is locked: then it touches that as it is.

    Args:
        values: The id, version, expiry and last touch that were seen, the new idle timeout and expiry, and the time.
        touched: Gives what the touch makes of a session at a time; None touches none that has changed.

    Attributes:
        record: The session as it is touched, if it had changed.
        now: The time, once an attempt has begun.
    """

    __slots__ = ("now", "record", "touched", "values")
    names = ("id", "version", "seen", "seen_touch", "ttl", "expires_at", "touched_at")

    def __init__(
        self,
        values: tuple[bytes, int, int | None, int | None, int | None, int | None, int | None],
        touched: Callable[[Record, int], Record] | None = None,
    ) -> None:
        super().__init__(values[0])
        self.values = values
        self.touched = touched
        self.now = 0
        self.record: Record | None = None

    @classmethod
    def of(
        cls, digest: bytes, old: Record, new: Record, touched: Callable[[Record, int], Record] | None = None
    ) -> Touch:
        """The touch that makes one record of a session another."""
        seen = (old.version, old.expires_at, old.touched_at)
        return cls((digest, *seen, new.ttl, new.expires_at, new.touched_at), touched)

    def begin(self, now: int) -> bool:
        """See `Operation.begin`."""
        self.now = now
        seen = self.values[2]
        return seen is None or seen > now  # else it has expired since, and stays so

    def begin_over(self, old: Record) -> bool:
        """Set the values of a touch of a session that is locked; whether it lives."""
        if (old.version, old.expires_at, old.touched_at) == self.values[1:4]:
            return True
        if self.touched is None or not old.live(self.now):
            return False
        self.record = self.touched(old, self.now)
        self.values = Touch.of(self.digest, old, self.record).values
        return True

    @property
    def parameters(self) -> dict[str, Any]:
        """The values as parameters of a statement."""
        return {f"p_{name}": value for name, value in zip(self.names, self.values, strict=True)}


class Delete(Operation):
    """Ends a live session that is not chunked, leaving a tombstone; gives whether it did, and is kept if not.

    Attributes:
        tombstone: The ``seq`` of the tombstone.
        now: The time, once an attempt has begun.
    """

    __slots__ = ("now", "tombstone")

    def __init__(self, digest: bytes, tombstone: int) -> None:
        super().__init__(digest)
        self.tombstone = tombstone
        self.now = 0

    def begin(self, now: int) -> bool:
        """See `Operation.begin`."""
        self.now = now
        return True


class KeptDelete(Delete):
    """Ends a session and keeps a record of it.

    Attributes:
        reason: Why it ends.
    """

    __slots__ = ("reason",)

    def __init__(self, digest: bytes, tombstone: int, reason: EndReason) -> None:
        super().__init__(digest, tombstone)
        self.reason = reason


def grouped(changes: Iterable[Operation]) -> list[tuple[Any, list[Any]]]:
    """Changes that one statement can make together, by what that statement is; each by id.

    The statement is determined by the class, and for a write by the options that are given and whether it
    is conditional on a version (True), on there being no session (False), or not at all (None).
    """
    groups: dict[Any, list[Any]] = {}
    for change in sorted(changes, key=attrgetter("digest")):
        groups.setdefault(_kind(change), []).append(change)
    return list(groups.items())


def parted(changes: Sequence[Operation]) -> list[Sequence[Operation]]:
    """Changes that one transaction may make together, so that no two transactions wait for each other."""
    parts: dict[Any, list[Operation]] = {}
    for change in changes:
        parts.setdefault(_kind(change) if makes_row(change) else None, []).append(change)
    return list(parts.values())


def makes_row(change: Operation) -> bool:
    """Whether a change may make a session."""
    return isinstance(change, Write) and not change.if_match


def _kind(change: Operation) -> Any:
    if isinstance(change, Write):
        return Write, change.given, None if change.if_match is None else change.if_match > 0
    return type(change)


def matched(operations: Iterable[Operation], rows: Iterable[Row]) -> list[Row | None]:
    """Rows that begin with their id, in the order of the operations."""
    found = {row[0]: row for row in rows}
    return [found.get(operation.digest) for operation in operations]
