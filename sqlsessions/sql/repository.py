"""The operations on sessions in the database, by digest: each is one statement or one transaction."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from .. import records
from .._versions import GAP, fence, fits, new_version, next_version
from ..errors import SessionConflict, SessionCorrupt, SessionNotFound
from ..events import Events
from ..info import EndReason, Rebinding, SessionInfo, Successor
from ..records import Cap, Clock, Lifetime, Options, Record, written
from ..storage import KEEP, Default, Duration, Keep
from .batching.driver import Driver
from .batching.executor import BatchExecutor
from .batching.operations import Delete, KeptDelete, Operation, Row, Touch, Write
from .ending import Ending
from .engine.database import IDEMPOTENT, Database, Work
from .keeping import Keeping
from .models import sessions
from .replica import Replica
from .staging import copy
from .statements import capping, chunks, in_doubt, transactions
from .statements.labels import pages_of
from .statements.listing import PAGE, batches, fetch, page_of, within
from .statements.single import DATA, EXPIRES_AT, RECORD, SIZE, ExplicitOptions, Part, live_at, record_of, row
from .statements.transactions import Stored

T = TypeVar("T")
Page = list[tuple[bytes, Record]]

c = sessions.c


class SessionRepository:
    """Sessions in the database.

    Args:
        database: Where they are.
        driver: Carries out operations on small sessions.
        clock: Gives the time.
        defaults: The storage's settings.
        events: Logs ids that no live session has.
        replica: Where sessions are read, if there is one.
        prefixes: What the digests of the namespaces begin with.
        cap: How many live sessions a subject may have; None is any number.
        keep_ended: For how long records of sessions that have ended are kept; None keeps none.

    Attributes:
        ending: Ends sessions; ``keeping`` keeps records of them.
        now: Gives the time.
        defaults: The storage's settings.
    """

    def __init__(
        self,
        database: Database,
        driver: Driver[Any],
        clock: Clock,
        defaults: Lifetime,
        events: Events,
        replica: Replica | None = None,
        prefixes: Collection[bytes | None] = (None,),
        cap: Cap | None = None,
        keep_ended: Duration | None = None,
    ) -> None:
        self._within = within(*prefixes)
        self._namespace = min(prefix or b"" for prefix in prefixes)  # the same whichever of them is first
        self._cap = cap
        self._replica = replica
        self._database = database
        self.now = partial(records.microseconds, clock)
        self.keeping = Keeping(database, keep_ended, prefixes, self.now)
        self.ending = Ending(database, self.now, self.pin, prefixes, self.keeping)
        self.defaults = defaults
        self._events = events
        self._conditional = driver.conditional
        self._executor = BatchExecutor(database, driver, self.now)

    @property
    def queued(self) -> tuple[int, int]:
        """How many reads and how many changes wait for their batch."""
        return self._executor.queued

    async def staging_version(self, digest: bytes, options: Options) -> int:
        """A version for data that is staged: above what the session's will likely be at the end."""
        before = options.if_match
        if not before:
            row = await self._executor.read(digest, "record")
            before = None if row is None else record_of(row).version
        return new_version() if before is None else next_version(before, new_version(), steps=GAP)

    async def select(self, digest: bytes, part: Part = "all") -> Row:
        """The row of a live session, with the columns of a part, or of all; its data is None if it is chunked.

        Raises:
            SessionNotFound: If there is none.
            SessionCorrupt: If its data does not match its recorded size.
        """
        row = None
        if self._replica is not None:
            row = await self._replica.read(digest, part)
            if row is not None and row[EXPIRES_AT] is not None and row[EXPIRES_AT] <= self.now():
                row = None  # it may have been extended since
        if row is None:
            row = await self._executor.read(digest, part)
        if row is None or (row[EXPIRES_AT] is not None and row[EXPIRES_AT] <= self.now()):
            self._events.unknown(digest)
            raise SessionNotFound("no live session has this id")
        if row[DATA] is not None and len(row[DATA]) != row[SIZE]:
            raise SessionCorrupt(
                "a session's stored data does not match its recorded size; it cannot be read"
            )
        return row

    async def record(self, digest: bytes) -> Record | None:
        """A live session without its data."""
        if (record := await self._live(digest)) is None:
            self._events.unknown(digest)
        return record

    async def _live(self, digest: bytes) -> Record | None:
        row = await self._executor.read(digest, "record")
        return None if row is None or not (record := record_of(row)).live(self.now()) else record

    async def write_inline(
        self, digest: bytes, data: bytes, options: Options, evicted: list[bytes]
    ) -> Record:
        """Write a small session; those that ended for it are added to a list."""
        version = new_version()
        capped = self._cap is not None and self._cap.counts(options.subject)
        if capped or options.labels is not KEEP:
            async with self._executor.turn(digest):
                return await self._replace(
                    digest, options, version=version, size=len(data), data=data, evicted=evicted
                )
        if options.if_match:
            version = next_version(options.if_match, version)
        else:
            version = fits(version, self._executor.known.get(digest))

        def row_at(now: int, old: Record | None = None, version: int = version) -> tuple[Any, ...]:
            return row(digest, written(old, options, now, version, len(data), self.defaults), data)

        write = Write(digest, version, row_at, ExplicitOptions.of(options), options.if_match, len(data))
        if (found := await self._change(write)) is not None:
            return Record(*found[1:])
        # Not written: it is chunked, it conflicts, or the database cannot do it in one statement.
        with self._executor.finishing(write):
            if not write.in_doubt and (options.if_match or (self._conditional and options.if_match == 0)):
                held = await self._live(digest)
                if options.if_match != (0 if held is None else held.version):
                    raise SessionConflict(transactions.CONFLICT)
            lost = write.known if write.in_doubt else None
            return await self._replace(digest, options, version=version, size=len(data), data=data, lost=lost)

    async def replace(
        self,
        digest: bytes,
        options: Options,
        evicted: list[bytes],
        *,
        version: int,
        size: int,
        staged: int,
    ) -> Record:
        """Point a session to data that is staged under a version; see `transactions.replace`."""
        async with self._executor.turn(digest):
            return await self._replace(
                digest, options, version=version, size=size, data=None, staged=staged, evicted=evicted
            )

    async def _replace(
        self,
        digest: bytes,
        options: Options,
        *,
        version: int,
        size: int,
        data: bytes | None,
        staged: int = 0,
        lost: list[int] | None = None,
        evicted: list[bytes] | None = None,
    ) -> Record:
        """Write a session whatever it was before; see `transactions.replace`.

        Unless ``lost`` is None, the reply to a small write with this version was lost, which met one of these
        versions if it met one.
        """
        before = lost or []
        may_be_done = doubtful = lost is not None
        replace = partial(
            transactions.replace,
            dialect=self._database.dialect,
            digest=digest,
            options=options,
            defaults=self.defaults,
            version=fence(version) if lost is not None else version,
            size=size,
            data=data,
            staged=staged,
            before=before,
        )
        ending: list[Stored] = []

        async def work(connection: AsyncConnection) -> Record:
            nonlocal may_be_done
            ending[:] = await self._make_room(connection, digest, options)
            if doubtful:  # what was lost may have come to its end since it was looked for
                await transactions.locked(connection, c.id == digest)
                if record := await in_doubt.written(connection, digest, version, before):
                    return record
            record = await replace(connection, now=self.now())
            await self.ending.end_locked(connection, ending, chunks.new_tombstone(), "too_many")
            may_be_done = True  # from here on, when the COMMIT is sent
            return record

        async def resolve(connection: AsyncConnection) -> Record | None:
            nonlocal doubtful
            doubtful = may_be_done
            return await in_doubt.written(connection, digest, version, before) if doubtful else None

        record = await self._transaction(work, resolve, [digest])
        self._executor.known.note(digest, record.version)
        if evicted is not None:
            evicted += [stored.id for stored in ending]
            self.pin(evicted)
        return record

    async def _make_room(self, connection: AsyncConnection, digest: bytes, options: Options) -> list[Stored]:
        """Lock the sessions that end for one more of its subject, if a write gives it to one."""
        if self._cap is None or not self._cap.counts(options.subject):
            return []
        return await capping.make_room(
            connection,
            self._database.dialect,
            self._cap,
            digest,
            options.subject,
            namespace=self._namespace,
            within=self._within,
            now=self.now(),
        )

    async def touch(self, digest: bytes, old: Record, ttl: int | Default | Keep | None) -> Record | None:
        """Touch a session that was read, if it lives yet."""
        every, after = self.defaults.every, None
        if old.touched(self.now(), ttl, every) is old:
            return old
        touch = Touch(digest, ttl, every)
        if found := await self._change(touch):
            return Record(*found[1:])
        if touch.in_doubt:
            after = touch.now
        elif (record := await self._live(digest)) is None or record.touched(self.now(), ttl, every) is record:
            return record  # it has ended, or others have touched it
        locked = partial(transactions.touch, digest=digest, clock=self.now, ttl=ttl, every=every, after=after)
        return await self._transaction(locked, IDEMPOTENT, [digest])

    async def delete(self, digest: bytes, reason: EndReason = "ended") -> bool:
        """End a session; whether it lived."""
        tombstone = chunks.new_tombstone()
        if kept := self.keeping.on:
            await self.keeping.announce()
        delete = KeptDelete(digest, tombstone, reason) if kept else Delete(digest, tombstone)
        if await self._change(delete):
            return True
        with self._executor.finishing(delete):
            lives = delete.in_doubt or await self._live(digest) is not None
            return lives and await self.end_one(digest, reason)

    async def end_one(self, digest: bytes, reason: EndReason) -> bool:
        """End a session; whether it lived."""
        ended: list[bytes] = []
        await self.ending.end(ended, self.ending.one(digest, reason))
        return bool(ended)

    async def rotate(self, digest: bytes, new_digest: bytes, rebinding: Rebinding | None) -> Record:
        """Give a session a new id; copy its chunks if it is large."""
        try:
            async with self._executor.turn(digest, new_digest):
                result = await self._move(digest, new_digest, None, rebinding)
                while not isinstance(result, Record):  # large, and not copied as it is now
                    await copy(self._database, result.record, digest, new_digest)
                    result = await self._move(digest, new_digest, result.record, rebinding)
        except SessionNotFound:
            self._events.unknown(digest)
            raise
        return result

    async def _move(
        self, digest: bytes, new_digest: bytes, copied: Record | None, rebinding: Rebinding | None = None
    ) -> Stored | Record:
        """Give a session a new id; see `transactions.move`."""
        moved: Stored | Record | None = None
        tombstone = chunks.new_tombstone()

        async def work(connection: AsyncConnection) -> Stored | Record:
            nonlocal moved
            dialect, now = self._database.dialect, self.now()
            moved = await transactions.move(
                connection, dialect, digest, new_digest, now, copied, tombstone, rebinding
            )
            return moved

        async def resolve(connection: AsyncConnection) -> Record | None:
            done = isinstance(moved, Record) and await in_doubt.ended(connection, digest, tombstone)
            return moved if done and isinstance(moved, Record) else None

        return await self._transaction(work, resolve, [digest, new_digest])

    async def rebind(self, digest: bytes, rebinding: Rebinding) -> bool:
        """Rebind a live session; whether something changed."""

        async def work(connection: AsyncConnection) -> bool:
            found = await transactions.locked(connection, c.id == digest, live_at(self.now()))
            return bool(found) and await transactions.rebind(connection, found[0], digest, rebinding)

        async with self._executor.turn(digest):
            return await self._database.transaction(work, resolve=IDEMPOTENT)

    async def forwarding(self, digest: bytes) -> tuple[bytes, Record | None, int] | None:
        """Where the session of an old id went, which was changed or ended.

        Returns:
            The digest of the newest id, the session if it lives, and when the old id was given up; None if
            it was not.
        """
        find = partial(chunks.moves, digest=digest, since=self.now() - records.FORWARDING)
        if not (moves := await self._database.run(find)):
            return None
        first, given_up = digest, moves[0][0]
        digest = chunks.newest(digest, moves)
        if (record := await self._live(digest)) is None:
            return digest, None, given_up
        return None if digest == first else (digest, record, given_up)  # else the id is in use again

    async def successors(self, digests: Sequence[bytes]) -> dict[str, Successor]:
        """Where those sessions among some went whose ids were changed, by their old keys."""
        since, last, asked = self.now() - records.FORWARDING, {each: each for each in digests}, digests
        for _ in range(chunks.MAX_MOVES):
            moved = dict[bytes, bytes]()
            for some in batches(asked):
                found = await self._database.run(partial(chunks.find_forwardings, digests=some))
                moved |= {digest: to for digest, (when, to) in found.items() if to and when >= since}
            if not moved:
                break
            last = {digest: moved.get(to, to) for digest, to in last.items()}
            asked = list(set(moved.values()))
        ends = {digest: to.hex() for digest, to in last.items() if to != digest}
        live = await self.infos([bytes.fromhex(key) for key in set(ends.values())])
        return {digest.hex(): Successor(key, live.get(key)) for digest, key in ends.items()}

    async def infos(self, digests: Sequence[bytes]) -> dict[str, SessionInfo]:
        """The live sessions among some, by their keys."""
        live = dict[str, SessionInfo]()
        for some in batches(digests):
            wanted = select(c.id, *RECORD).where(c.id.in_(some), live_at(self.now()))
            for digest, record in await self._database.run(partial(fetch, statement=wanted)):
                live[bytes(digest).hex()] = record.info(digest)
        return live

    async def page(self, subject: str | None, after: tuple[bytes, Record] | None) -> Page:
        """Some live sessions; see `page_of`."""
        own = None if subject is None else self._database.dialect.subject_is(c.subject, subject)
        statement = page_of(self._within, own, after, self.now(), PAGE)
        return await self._database.run(partial(fetch, statement=statement))

    def labelled(self, label: str) -> AsyncIterator[Page]:
        """The live sessions with a label, by id, page by page."""
        return pages_of(label, self._within, self._database.run, self.now)

    def pin(self, digests: Iterable[bytes]) -> None:
        """Read sessions that may have been changed from the primary, until a replica has them."""
        if self._replica is not None:
            self._replica.pin(digests)

    def _change(self, change: Operation) -> Awaitable[Any]:
        changing = self._executor.change(change)
        return changing if self._replica is None else self._pinned(change.digest, changing)

    async def _pinned(self, digest: bytes, changing: Awaitable[Any]) -> Any:
        try:
            return await changing
        finally:
            self.pin([digest])

    async def _transaction(self, work: Work[T], resolve: Work[T | None], digests: list[bytes]) -> T:
        try:
            return await self._database.transaction(work, resolve=resolve)
        finally:
            self.pin(digests)
