"""Operations on single sessions, as they are queued and sent in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from time import monotonic
from typing import Any, Final

from ..._versions import is_below, is_same_write, next_version
from ...info import EndReason
from ...records import Record
from ...storage import DEFAULT, KEEP, Default, Keep
from ..statements.single import ExplicitOptions, Extending, Part

Row = Sequence[Any]

Kind = tuple[Any, ...]
"""See `kind_of`."""

ABSENT: Final = object()
"""The result of a write of a session that was thought to be there, and was not: it is to be made another way."""


class Operation:
    """One operation on one session, on its way to the database.

    Attributes:
        again: Whether it goes into another batch, since it was not carried out.
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
        "again",
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
        self.again = self.aside = self.carried = self.kept = self.sent = False
        self.submitted = monotonic()

    def begin(self, now: int) -> None:
        """Set the time of the attempt that begins, which those need that change something."""


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
        before: The version that the session was last seen with, before the write was sent; None if that is not known.
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

    def begin(self, now: int) -> None:
        """See `Operation.begin`."""
        self.now = now
        self.row = self.row_at(now)

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
    """Extends a live session, or notes its use, as it is by then; gives ``id, *RECORD`` as touched.

    Gives None if there is none, if that is not worth writing, or if the database does not say what it made of it.

    Args:
        digest: The session.
        ttl: The new idle timeout; DEFAULT is its own, KEEP extends nothing.
        every: The storage's ``touch_every``.

    Attributes:
        now: The time, once an attempt has begun.
    """

    __slots__ = ("every", "now", "ttl")

    def __init__(self, digest: bytes, ttl: int | Default | Keep | None, every: int | None) -> None:
        super().__init__(digest)
        self.ttl = ttl
        self.every = every
        self.now = 0

    @property
    def extending(self) -> Extending:
        """See `Extending`."""
        if self.ttl is KEEP:
            return "nothing"
        return "own" if self.ttl is DEFAULT else "given"

    @property
    def values(self) -> tuple[bytes, int | None, int, int | None]:
        """The values of `TOUCHING`."""
        ttl = self.ttl if isinstance(self.ttl, int) else None
        return self.digest, ttl, self.now, self.every

    def begin(self, now: int) -> None:
        """See `Operation.begin`."""
        self.now = now


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

    def begin(self, now: int) -> None:
        """See `Operation.begin`."""
        self.now = now


class KeptDelete(Delete):
    """Ends a session and keeps a record of it.

    Attributes:
        reason: Why it ends.
    """

    __slots__ = ("reason",)

    def __init__(self, digest: bytes, tombstone: int, reason: EndReason) -> None:
        super().__init__(digest, tombstone)
        self.reason = reason


def grouped(changes: Iterable[Operation]) -> list[tuple[Kind, list[Any]]]:
    """Changes that one statement can make together, by what that statement is; each by id."""
    groups: dict[Kind, list[Any]] = {}
    for change in sorted(changes, key=attrgetter("digest")):
        groups.setdefault(kind_of(change), []).append(change)
    return list(groups.items())


def parted(changes: Sequence[Operation]) -> list[Sequence[Operation]]:
    """Changes that one transaction may make together, so that no two transactions wait for each other.

    What makes sessions is apart from all else, and of one kind. Writes of sessions that are likely to be there are with
    all else, where that is not all there is: they do not make them then, but see `ABSENT`.
    """
    if are_of_one_kind(changes):
        return [changes]
    parts: dict[Kind | None, list[Operation]] = {}
    for change in changes:
        apart = isinstance(change, Write) and not change.if_match and not change.rewrites
        parts.setdefault(kind_of(change) if apart else None, []).append(change)
    return list(parts.values())


def are_of_one_kind(changes: Sequence[Operation]) -> bool:
    """Whether one statement can make all of some changes."""
    first = kind_of(changes[0]) if changes else None
    return all(kind_of(change) == first for change in changes)


def makes_row(change: Operation) -> bool:
    """Whether a change may make a session."""
    return isinstance(change, Write) and not change.if_match


def kind_of(change: Operation) -> Kind:
    """What determines the statement of a change.

    That is the class; of a write, the options that are given, and whether it is conditional on a version (True), on
    there being no session (False), or not at all (None); of a touch, what it extends by.
    """
    if isinstance(change, Write):
        return Write, change.given, None if change.if_match is None else change.if_match > 0
    return (Touch, change.extending) if isinstance(change, Touch) else (type(change),)


def matched(operations: Iterable[Operation], rows: Iterable[Row]) -> list[Row | None]:
    """Rows that begin with their id, in the order of the operations."""
    found = {row[0]: row for row in rows}
    return [found.get(operation.digest) for operation in operations]
