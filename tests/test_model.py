"""Any sequence of calls does what a small model of a session storage says."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlsessions import (
    DEFAULT,
    KEEP,
    ManagedSessionStorage,
    SessionConflict,
    SessionInfo,
    SessionNotFound,
    SessionStorageMemory,
    Snapshot,
)
from sqlsessions.testing import ManualClock

IDS = ["a", "A", "\u00e4"]
SUBJECTS = ["ann", "Ann"]
SIZES = [0, 5, 200, 70_000]
SPANS = [0.5, 5.0, 100.0, 7200.0, None]


@dataclass
class Kept:
    """A session, with what the storage shows of it as ``info``."""

    data: bytes
    info: SessionInfo
    ttl: timedelta | None
    ends_at: datetime | None


class Model:
    """What a storage should hold, expired or not, by id."""

    def __init__(self, storage: ManagedSessionStorage, clock: ManualClock) -> None:
        self.storage = storage
        self.clock = clock
        self.kept: dict[str, Kept] = {}
        self.versions: dict[str, list[int]] = {id: [1, 2] for id in IDS}
        self.moved: dict[str, tuple[datetime, str | None]] = {}
        self.writes = 0

    def note_move(self, id: str, new_id: str | None) -> None:
        """Note where a session went, or with None that it was ended."""
        if new_id is not None:
            self.moved.pop(new_id, None)
        self.moved[id] = self.clock.now, new_id

    def newest(self, id: str) -> str:
        """Where a session went whose id was changed in the last minute."""
        while (move := self.moved.get(id)) and move[0] >= self.clock.now - timedelta(minutes=1):
            if move[1] is None:
                break
            id = move[1]
        return id

    def live(self, id: str) -> Kept | None:
        kept = self.kept.get(id)
        return kept if kept and not self.expired(kept) else None

    def expired(self, kept: Kept) -> bool:
        return kept.info.expires_at is not None and kept.info.expires_at <= self.clock.now

    def of(self, subject: str) -> list[str]:
        return [id for id in self.kept if (kept := self.live(id)) and kept.info.subject == subject]

    async def check(self) -> None:
        """Compare all that can be seen."""
        live = {id: kept for id in self.kept if (kept := self.live(id))}
        for id in IDS:
            kept = live.get(id)
            assert await self.storage.load(id) == (kept and Snapshot(kept.data, kept.info))
            assert await self.storage.info(id) == (kept and kept.info)
            if kept:
                assert await self.storage.read_bytes(id) == kept.data
            else:
                with pytest.raises(SessionNotFound):
                    await self.storage.read_bytes(id)
        everybody = [info async for info in self.storage.sessions()]
        assert everybody == sorted((kept.info for kept in live.values()), key=lambda info: info.key)
        for subject in SUBJECTS:
            listed = [info async for info in self.storage.sessions(subject)]
            assert {info.key for info in listed} == {live[id].info.key for id in self.of(subject)}
            assert listed == sorted(listed, key=lambda info: info.created_at, reverse=True)


@dataclass
class Advance:
    seconds: float

    async def run(self, model: Model) -> None:
        model.clock.advance(self.seconds)


@dataclass
class Write:
    id: str
    size: int
    ttl: Any
    max_age: Any
    subject: Any
    match: str

    async def run(self, model: Model) -> None:
        old, now = model.live(self.id), model.clock.now
        model.writes += 1
        data = (b"%d " % model.writes * self.size)[: self.size]
        before, last = model.versions[self.id][-2:]
        if_match = {"any": None, "none": 0, "last": last, "one before": before}[self.match]
        options = {"ttl": self.ttl, "max_age": self.max_age, "subject": self.subject, "if_match": if_match}
        if if_match is not None and if_match != (old.info.version if old else 0):
            with pytest.raises(SessionConflict):
                await model.storage.write_bytes(self.id, data, **options)
            return
        info = await model.storage.write_bytes(self.id, data, **options)
        created = old.info.created_at if old else now
        if self.ttl is DEFAULT:
            ttl = old.ttl if old else timedelta(days=14)
        else:
            ttl = None if self.ttl is None else timedelta(seconds=self.ttl)
        if self.max_age is DEFAULT:
            ends_at = old.ends_at if old else None
        else:
            ends_at = None if self.max_age is None else created + timedelta(seconds=self.max_age)
        if self.subject is KEEP:
            subject = old.info.subject if old else None
        else:
            subject = self.subject
        key = model.storage.digest(self.id).hex()
        expires_at = soonest(now + ttl if ttl else None, ends_at)
        updated = max(now, created + timedelta(microseconds=1)) if old else now
        assert info == SessionInfo(
            key, info.version, self.size, created, updated, expires_at, subject, used_at=updated
        )
        assert info.version > (old.info.version if old else 0)
        assert info.version not in model.versions[self.id]
        model.versions[self.id].append(info.version)
        model.kept[self.id] = Kept(data, info, ttl, ends_at)


@dataclass
class Touch:
    id: str
    ttl: Any

    async def run(self, model: Model) -> None:
        info = await model.storage.touch(self.id, ttl=self.ttl)
        if (kept := model.live(self.id)) is None:
            assert info is None
            return
        old_ttl, old = kept.ttl, kept.info.expires_at
        if self.ttl not in (DEFAULT, KEEP):
            kept.ttl = None if self.ttl is None else timedelta(seconds=self.ttl)
        new = (
            old
            if self.ttl is KEEP
            else soonest(model.clock.now + kept.ttl if kept.ttl else None, kept.ends_at)
        )
        gains = old is not None and (new is None or new > old)
        little = old and new and kept.ttl and kept.ttl == old_ttl and new - old < kept.ttl / 20
        if gains and not little:
            kept.info = replace(kept.info, expires_at=new)
        assert kept.info.used_at is not None
        every = getattr(model.storage, "touch_every", None)
        due = every is not None and model.clock.now - kept.info.used_at >= timedelta(seconds=every)
        if kept.ttl != old_ttl or (gains and not little) or due:
            kept.info = replace(kept.info, used_at=max(model.clock.now, kept.info.used_at))
        assert info == kept.info


@dataclass
class Rotate:
    id: str
    new_id: str

    async def run(self, model: Model) -> None:
        if (kept := model.live(self.id)) is None:
            with pytest.raises(SessionNotFound):
                await model.storage.rotate(self.id, self.new_id)
        elif model.live(self.new_id):
            with pytest.raises(SessionConflict):
                await model.storage.rotate(self.id, self.new_id)
        else:
            info = await model.storage.rotate(self.id, self.new_id)
            assert info == replace(kept.info, key=model.storage.digest(self.new_id).hex())
            model.kept[self.new_id] = replace(model.kept.pop(self.id), info=info)
            model.clock.advance(0.000_001)  # so that an id was not ended and moved at the same time
            model.note_move(self.id, self.new_id)
            model.versions[self.new_id].append(info.version)


@dataclass
class Invalidate:
    id: str
    by_key: bool

    async def run(self, model: Model) -> None:
        if self.by_key:
            ended = await model.storage.invalidate_key(model.storage.digest(self.id).hex())
            assert ended == (model.live(self.id) is not None)
        else:
            await model.storage.invalidate(self.id)
        if model.live(self.id):
            del model.kept[self.id]
            model.note_move(self.id, None)


@dataclass
class Revoke:
    subject: str
    keep: str | None

    async def run(self, model: Model) -> None:
        kept = (self.keep, None if self.keep is None else model.newest(self.keep))
        ended = [id for id in model.of(self.subject) if id not in kept]
        assert await model.storage.revoke(self.subject, keep=self.keep) == len(ended)
        for id in ended:
            del model.kept[id]


@dataclass
class Purge:
    batch_size: int

    async def run(self, model: Model) -> None:
        expired = [id for id, kept in model.kept.items() if model.expired(kept)]
        # An expired session may already be gone: by a call that came across it.
        assert await model.storage.purge(batch_size=self.batch_size) <= len(expired)
        assert await model.storage.purge() == 0
        for id in expired:
            del model.kept[id]


def soonest(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


ids = st.sampled_from(IDS)
spans = st.sampled_from([DEFAULT, *SPANS])
operations = st.lists(
    st.one_of(
        st.builds(Advance, st.sampled_from([0.0001, 0.4999, 4.75, 5.0, 99.0, 3600.0, 10 * 86_400.0])),
        st.builds(
            Write,
            ids,
            st.sampled_from(SIZES),
            spans,
            spans,
            st.sampled_from([KEEP, None, *SUBJECTS, *SUBJECTS]),
            st.sampled_from(["any", "any", "none", "last", "one before"]),
        ),
        st.builds(Touch, ids, st.one_of(spans, st.just(KEEP))),
        st.builds(Rotate, ids, ids),
        st.builds(Invalidate, ids, st.booleans()),
        st.builds(Revoke, st.sampled_from(SUBJECTS), st.sampled_from([None, *IDS])),
        st.builds(Purge, st.integers(1, 3)),
    ),
    max_size=50,
)

touch_every = st.sampled_from([None, 5.0, 3600.0])


async def play(create: Callable[[ManualClock], ManagedSessionStorage], operations: list[Any]) -> None:
    """Do the operations on a new storage and on the model, and compare after each."""
    clock = ManualClock()
    async with create(clock) as storage:
        model = Model(storage, clock)
        for operation in operations:
            await operation.run(model)
            await model.check()


@settings(max_examples=300, deadline=None)
@given(operations, touch_every)
def test_memory_agrees_with_the_model(operations: list[Any], every: float | None) -> None:
    asyncio.run(play(lambda clock: SessionStorageMemory(clock=clock, touch_every=every), operations))
