"""Requests whose session got another id, or ended, meanwhile: two managers stand for two processes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from sqlsessions import SessionInfo, Snapshot, UnsupportedOperation, new_session_id
from sqlsessions.integrations._web.cookies import Cookie
from sqlsessions.integrations._web.manager import SessionManager
from sqlsessions.integrations._web.session import Session
from sqlsessions.testing import ManualClock, SpyStorage

DAY = 24 * 60 * 60
DROPPED = "its changes are dropped"


def process(storage: Any, **options: Any) -> SessionManager:
    return SessionManager(storage, Cookie(), **{"max_age": DAY} | options)


@pytest.fixture
def one(storage: SpyStorage) -> SessionManager:
    return process(storage)


@pytest.fixture
def other(storage: SpyStorage) -> SessionManager:
    return process(storage)


async def begin(manager: SessionManager, subject: str | None = None, **data: Any) -> str:
    """The id of a new session."""
    session = manager.open(None)
    session.update(data)
    if subject is not None:
        session.subject = subject
    await manager.commit(session)
    return id_of(session)


async def read(manager: SessionManager, id: str) -> Session:
    """The session of a request that accessed it."""
    session = manager.open(id)
    await manager.load(session)
    session.mark_accessed()
    return session


async def answer(manager: SessionManager, session: Session) -> str | None:
    """The cookie that the response sets once the session is written."""
    await manager.commit(session)
    return manager.set_cookie(session, https=True)


def id_of(session: Session) -> str:
    assert session.state.id is not None
    return session.state.id


async def login(manager: SessionManager, id: str, subject: str = "ann", **data: Any) -> str:
    session = await read(manager, id)
    session.subject = subject
    session.update(data)
    assert await answer(manager, session)
    return id_of(session)


async def regenerate(manager: SessionManager, id: str, **data: Any) -> str:
    session = await read(manager, id)
    session.regenerate()
    session.update(data)
    assert await answer(manager, session)
    return id_of(session)


async def data_of(manager: SessionManager, id: str) -> dict[str, Any]:
    return (await read(manager, id)).plain()


async def sessions(storage: SpyStorage) -> list[SessionInfo]:
    return [info async for info in storage.sessions()]


class TestAMovedId:
    @pytest.mark.parametrize("move", [login, regenerate])
    async def test_reads_no_session_and_leaves_the_cookie(
        self, one: SessionManager, other: SessionManager, move: Any
    ) -> None:
        old = await begin(one, a=1)
        new = await move(one, old)
        late = await read(other, old)
        assert (late.plain(), late.subject, late.info) == ({}, None, None)
        assert await answer(other, late) is None
        assert await data_of(other, new) == {"a": 1}

    async def test_begins_no_session(
        self,
        one: SessionManager,
        other: SessionManager,
        storage: SpyStorage,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        old = await begin(one, a=1)
        new = await login(one, old)
        late = await read(other, old)
        for value in ("secret word", "other word"):
            late["poll"] = value
            assert await answer(other, late) is None
        assert caplog.text.count(DROPPED) == 1
        assert "word" not in caplog.text
        assert len(await sessions(storage)) == 1
        assert await data_of(other, new) == {"a": 1}

    async def test_is_known_after_several_moves(self, one: SessionManager, other: SessionManager) -> None:
        first = await begin(one, a=1)
        last = await login(other, await regenerate(other, await regenerate(one, first)))
        late = await read(one, first)
        late["poll"] = 1
        assert await answer(one, late) is None
        assert await data_of(one, last) == {"a": 1}

    async def test_is_told_in_the_security_log(
        self, one: SessionManager, other: SessionManager, caplog: pytest.LogCaptureFixture
    ) -> None:
        old = await begin(one, a=1)
        new = await login(one, old)
        caplog.set_level(logging.INFO, "sqlsessions.security")
        await read(other, old)
        moved = vars(caplog.records[-1])
        assert (moved["session_event"], caplog.messages[-1][:26]) == ("moved", "moved session id presented")
        assert {"session_hash", "previous_hash"} <= moved.keys()
        assert not any(id in caplog.text for id in (old, new))

    async def test_may_log_in(self, one: SessionManager, other: SessionManager, storage: SpyStorage) -> None:
        old = await begin(one, cart=1)
        first = await login(one, old)
        late = await read(other, old)
        late.subject = "ann"
        late["user"] = "ann"
        assert f"session={id_of(late) if await answer(other, late) else None}" != "session=None"
        assert id_of(late) not in (old, first)
        assert await data_of(one, id_of(late)) == {"user": "ann"}
        assert await data_of(one, first) == {"cart": 1}
        assert {info.subject for info in await sessions(storage)} == {"ann"}

    async def test_gives_access_to_nothing_ever(
        self, one: SessionManager, other: SessionManager, storage: SpyStorage, clock: ManualClock
    ) -> None:
        old = await begin(one, a=1)
        new = await login(one, old)
        for seconds in (0, 59, 60, 3600):
            clock.advance(seconds)
            assert await data_of(other, old) == {}
            for use in (storage.info, storage.touch, storage.load):
                assert await use(old) is None
        assert await data_of(one, new) == {"a": 1}

    async def test_is_forgotten_after_a_minute(
        self, one: SessionManager, other: SessionManager, clock: ManualClock
    ) -> None:
        old = await begin(one, a=1)
        await login(one, old)
        clock.advance(61)
        assert "Max-Age=0" in str(await answer(other, await read(other, old)))


class TestALogout:
    @pytest.mark.parametrize("how", ["unread", "invalidate", "clear", "read before", "cleared before"])
    @pytest.mark.parametrize("move", [login, regenerate])
    async def test_with_a_moved_id_ends_the_successor(
        self, one: SessionManager, other: SessionManager, storage: SpyStorage, how: str, move: Any
    ) -> None:
        old = await begin(one, a=1)
        before = await read(other, old)
        await regenerate(one, await move(one, old))
        leaving = before if "before" in how else other.open(old)
        if how in ("invalidate", "clear"):
            await other.load(leaving)
            leaving.mark_accessed()
        if "clear" in how:
            leaving.clear()
        else:
            leaving.invalidate()
        assert "Max-Age=0" in str(await answer(other, leaving))
        assert await sessions(storage) == []

    async def test_takes_a_user_away_that_got_a_new_id(
        self, one: SessionManager, other: SessionManager, storage: SpyStorage
    ) -> None:
        old = await begin(one, "ann", a=1)
        leaving, emptied = await read(other, old), await read(other, old)
        await regenerate(one, old)
        leaving.subject = None
        assert await answer(other, leaving)
        assert [info.subject for info in await sessions(storage)] == [None]
        assert await data_of(one, id_of(leaving)) == {"a": 1}
        del emptied["a"]
        emptied.subject = None
        assert await answer(other, emptied) is None  # that session has ended by now

    @pytest.mark.parametrize("subject", [None, "ann"])
    async def test_by_deleting_the_last_key_ends_the_successor(
        self, one: SessionManager, other: SessionManager, storage: SpyStorage, subject: str | None
    ) -> None:
        old = await begin(one, subject, a=1)
        leaving, kept = await read(other, old), await read(other, old)
        new = await regenerate(one, old, b=1)
        del kept["a"]  # while another request added a key
        assert await answer(other, kept) is None
        assert await data_of(one, new) == {"b": 1}
        late = await read(one, new)
        del late["b"]
        late["a"] = 1
        await one.commit(late)
        del leaving["a"]
        assert "Max-Age=0" in str(await answer(other, leaving))
        assert await sessions(storage) == []

    async def test_by_deleting_the_last_key_does_not_reach_another_user(
        self, one: SessionManager, other: SessionManager
    ) -> None:
        old = await begin(one, a=1)
        leaving = await read(other, old)
        new = await login(one, old)
        del leaving["a"]
        assert await answer(other, leaving) is None
        assert await data_of(one, new) == {"a": 1}

    async def test_is_not_missed_by_a_move_at_the_same_time(
        self, one: SessionManager, storage: SpyStorage
    ) -> None:
        """Whatever is moved between its statements, the session has ended at the end."""
        current = await begin(one, a=1)

        class Racing(SpyStorage):
            moves = 5

            async def moved(self) -> None:
                nonlocal current
                if self.moves and await storage.info(current):
                    self.moves -= 1
                    new = new_session_id()
                    await storage.rotate(current, new)
                    current = new

            async def invalidate_key(self, key: str) -> bool:
                await self.moved()
                return await super().invalidate_key(key)

            async def successor(self, id: str) -> Any:
                await self.moved()
                return await super().successor(id)

        racing = process(Racing(storage))
        await racing.end(racing.open(current))
        assert await sessions(storage) == []

    async def test_of_many_at_once(
        self, one: SessionManager, other: SessionManager, storage: SpyStorage
    ) -> None:
        for _ in range(10):
            old = await begin(one, a=1)
            slow = [await read(manager, old) for manager in (one, other) for _ in range(2)]
            for session in slow[1:]:
                session["b"] = 1
                session.regenerate()
            slow[0].invalidate()
            async with asyncio.timeout(60):
                await asyncio.gather(*(one.commit(session) for session in slow))
            assert await sessions(storage) == []

    async def test_with_new_data_lets_the_old_id_lead_to_it(
        self, one: SessionManager, other: SessionManager, storage: SpyStorage
    ) -> None:
        old = await begin(one, "ann", a=1)
        leaving = await read(one, old)
        leaving.invalidate()
        leaving["said"] = "goodbye"
        assert await answer(one, leaving)
        late = await read(other, old)
        assert late.plain() == {}
        assert await answer(other, late) is None
        assert [info.subject for info in await sessions(storage)] == [None]
        assert await data_of(other, id_of(leaving)) == {"said": "goodbye"}


class TestChangesOfASlowRequest:
    async def test_follow_a_new_id(
        self, one: SessionManager, other: SessionManager, storage: SpyStorage
    ) -> None:
        old = await begin(one, "ann", kept=1, changed=1, removed=1)
        slow = await read(other, old)
        session = await read(one, old)
        session.set_expiry(3 * DAY, browser=True)
        await one.commit(session)
        new = await regenerate(one, old, theirs=1)
        for number in range(2):  # it may be written again
            slow["changed"] = slow["mine"] = number
            slow.pop("removed", None)
            assert await answer(other, slow) is None
            expected = {"kept": 1, "changed": number, "mine": number, "theirs": 1}
            assert await data_of(one, new) == slow.plain() == expected
        state = (await read(one, new)).state
        assert (state.ttl, state.browser) == (3 * DAY * 1_000_000, True)
        assert len(await sessions(storage)) == 1

    async def test_follow_although_many_do(self, one: SessionManager, other: SessionManager) -> None:
        old = await begin(one, a=1)
        slow = [(manager, await read(manager, old)) for manager in (one, other) for _ in range(10)]
        new = await regenerate(one, await regenerate(other, old))
        for number, (_, session) in enumerate(slow):
            session[f"slow {number}"] = 1
        async with asyncio.timeout(60):
            await asyncio.gather(*(manager.commit(session) for manager, session in slow))
        assert len(await data_of(one, new)) == 21

    async def test_follow_a_session_that_is_moved_on_meanwhile(
        self, one: SessionManager, storage: SpyStorage
    ) -> None:
        old = await begin(one, a=1)

        class Racing(SpyStorage):
            moved = ""

            async def load_key(self, key: str) -> Snapshot | None:
                if not self.moved:
                    self.moved = await regenerate(one, new)
                return await super().load_key(key)

        racing = Racing(storage)
        slow = await read(process(racing), old)
        new = await regenerate(one, old)
        slow["slow"] = 1
        await process(racing).commit(slow)
        assert await data_of(one, racing.moved) == {"a": 1, "slow": 1}

    async def test_do_not_follow_a_login(
        self,
        one: SessionManager,
        other: SessionManager,
        storage: SpyStorage,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        old = await begin(one, a=1)
        slow = await read(other, old)
        new = await login(one, old)
        slow["slow"] = "secret word"
        assert await answer(other, slow) is None
        assert caplog.text.count(DROPPED) == 1
        assert "word" not in caplog.text
        assert await data_of(one, new) == {"a": 1}
        assert len(await sessions(storage)) == 1

    async def test_do_not_follow_a_login_that_comes_in_between(
        self, one: SessionManager, storage: SpyStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        old = await begin(one, a=1)

        class Racing(SpyStorage):
            async def load_key(self, key: str) -> Snapshot | None:
                await storage.write_bytes(new, b'{"of":"ann"}', subject="ann")
                return await super().load_key(key)

        racing = Racing(storage)
        slow = await read(process(racing), old)
        new = await regenerate(one, old)
        slow["slow"] = 1
        assert await answer(process(racing), slow) is None
        assert DROPPED in caplog.text
        assert await data_of(one, new) == {"of": "ann"}

    @pytest.mark.parametrize("how", ["logout", "expiry"])
    async def test_are_dropped_when_it_ended(
        self,
        one: SessionManager,
        other: SessionManager,
        storage: SpyStorage,
        clock: ManualClock,
        how: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        old = await begin(one, "ann", a=1)
        slow = await read(other, old)
        if how == "logout":
            await one.end(one.open(old))
        else:
            clock.advance(DAY + 1)
        slow["slow"] = 1
        assert await answer(other, slow) is None
        assert DROPPED in caplog.text
        assert await sessions(storage) == []

    async def test_are_not_missed_if_there_were_none(
        self, one: SessionManager, other: SessionManager, caplog: pytest.LogCaptureFixture
    ) -> None:
        old = await begin(one, a=1)
        regenerating, reading = await read(other, old), await read(other, old)
        await login(one, old)
        regenerating.regenerate()
        for slow in (regenerating, reading):
            assert await answer(other, slow) is None
        assert DROPPED not in caplog.text

    async def test_that_set_an_expiry_leave_it_and_log_that(
        self, one: SessionManager, other: SessionManager, caplog: pytest.LogCaptureFixture
    ) -> None:
        old = await begin(one, a=1)
        slow = await read(other, old)
        new = await regenerate(one, old)
        slow.set_expiry(60)
        assert await answer(other, slow) is None
        assert DROPPED in caplog.text
        assert (await read(one, new)).state.browser is None

    async def test_that_replace_all_data_follow(self, one: SessionManager, other: SessionManager) -> None:
        old = await begin(one, a=1)
        slow = await read(other, old)
        new = await regenerate(one, old, b=1)
        slow.clear()
        slow["c"] = 1
        assert await answer(other, slow) is None
        assert await data_of(one, new) == {"c": 1}

    async def test_are_dropped_on_a_storage_without_keys(
        self, one: SessionManager, storage: SpyStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Plain(SpyStorage):
            async def load_key(self, key: str) -> Snapshot | None:
                raise UnsupportedOperation(key)

        manager = process(Plain(storage))
        old = await begin(one, a=1)
        slow = await read(manager, old)
        new = await regenerate(one, old)
        slow["slow"] = 1
        assert await answer(manager, slow) is None
        assert DROPPED in caplog.text
        assert await data_of(one, new) == {"a": 1}


class TestALogin:
    async def test_that_is_submitted_twice(self, one: SessionManager, other: SessionManager) -> None:
        old = await begin(one, cart=1)
        submitted = [(one, await read(one, old)), (other, await read(other, old))]
        for manager, session in submitted:
            session.subject = session["user"] = "ann"
            assert await answer(manager, session)
        for _, session in submitted:
            found = await read(one, id_of(session))
            assert (found.subject, found.plain()) == ("ann", {"cart": 1, "user": "ann"})
        assert id_of(submitted[0][1]) != id_of(submitted[1][1])

    async def test_that_is_submitted_many_times_at_once(
        self, one: SessionManager, other: SessionManager
    ) -> None:
        old = await begin(one, cart=1)
        submitted = [(manager, await read(manager, old)) for manager in (one, other) for _ in range(5)]
        for _, session in submitted:
            session.subject = "ann"
        async with asyncio.timeout(60):
            cookies = await asyncio.gather(*(answer(manager, session) for manager, session in submitted))
        assert all(cookies)
        for _, session in submitted:
            found = await read(one, id_of(session))
            assert (found.subject, found.plain()) == ("ann", {"cart": 1})

    @pytest.mark.parametrize("how", ["logout", "expiry"])
    async def test_on_a_session_that_ended_brings_nothing_back(
        self, one: SessionManager, other: SessionManager, clock: ManualClock, how: str
    ) -> None:
        old = await begin(one, "ann", elevated=True)
        late = await read(other, old)
        if how == "logout":
            await one.end(one.open(old))
        else:
            clock.advance(DAY + 1)
        late.subject = late["user"] = "ann"
        assert await answer(other, late)
        found = await read(one, id_of(late))
        assert (found.subject, found.plain()) == ("ann", {"user": "ann"})

    async def test_of_another_user_takes_nothing_along(
        self, one: SessionManager, other: SessionManager
    ) -> None:
        old = await begin(one, cart=1)
        late = await read(other, old)
        new = await login(one, old, secret=1)
        late.subject = "bob"
        assert await answer(other, late)
        assert await data_of(one, id_of(late)) == {"cart": 1}
        assert await data_of(one, new) == {"cart": 1, "secret": 1}

    async def test_of_another_user_under_the_same_id(self, storage: SpyStorage) -> None:
        keeping = process(storage, rotate_on_login=False)
        id = await begin(keeping, cart=1)
        late = await read(keeping, id)
        await login(keeping, id, secret=1)
        late.subject = "bob"
        late["mine"] = 1
        await keeping.commit(late)
        found = await read(keeping, id)
        assert (found.subject, found.plain()) == ("bob", {"cart": 1, "mine": 1})

    async def test_after_a_logout_of_its_own_spares_the_one_before(
        self, one: SessionManager, other: SessionManager, storage: SpyStorage
    ) -> None:
        old = await begin(one, a=1)
        submitted = [(one, await read(one, old)), (other, await read(other, old))]
        for manager, session in submitted:
            session.invalidate()
            session.subject = "ann"
            assert await answer(manager, session)
        assert [info.subject for info in await sessions(storage)] == ["ann", "ann"]
        third = await read(one, old)
        third.invalidate()
        third.subject = "bob"
        assert await answer(one, third)
        assert await data_of(one, id_of(submitted[0][1])) == {}  # another user had it


class TestANewSessionInThePlaceOfAnother:
    async def replaced(self, manager: SessionManager, old: str, subject: str | None = None) -> Session:
        new = manager.open(None)
        new["new"] = 1
        if subject is not None:
            new.subject = subject
        await manager.replace(manager.open(old), new)
        assert manager.set_cookie(new, https=True)
        return new

    async def test_is_where_the_old_id_leads(self, one: SessionManager, other: SessionManager) -> None:
        old = await begin(one, a=1)
        new = await self.replaced(one, old)
        late = await read(other, old)
        late["poll"] = 1
        assert await answer(other, late) is None
        assert await data_of(one, id_of(new)) == {"new": 1}

    @pytest.mark.parametrize("subject", [None, "ann"])
    async def test_spares_the_one_before(
        self, one: SessionManager, other: SessionManager, storage: SpyStorage, subject: str | None
    ) -> None:
        old = await begin(one, a=1)
        both = [await self.replaced(manager, old, subject) for manager in (one, other)]
        for session in both:
            assert await data_of(one, id_of(session)) == {"new": 1}
        assert [info.subject for info in await sessions(storage)] == [subject] * 2

    async def test_of_another_user_ends_the_one_before(
        self, one: SessionManager, storage: SpyStorage
    ) -> None:
        old = await begin(one, a=1)
        for subject in ("ann", "bob"):
            await self.replaced(one, old, subject)
        assert [info.subject for info in await sessions(storage)] == ["bob"]

    async def test_ends_nothing_if_it_cannot_be_encoded(self, one: SessionManager) -> None:
        old = await begin(one, a=1)
        new = one.open(None)
        new["bad"] = object()
        with pytest.raises(TypeError):
            await one.replace(one.open(old), new)
        assert await data_of(one, old) == {"a": 1}

    async def test_that_is_empty_ends_the_successor(
        self, one: SessionManager, other: SessionManager, storage: SpyStorage
    ) -> None:
        old = await begin(one, a=1)
        await login(one, old)
        new = other.open(None)
        await other.replace(other.open(old), new)
        assert await sessions(storage) == []
        assert "Max-Age=0" in str(other.set_cookie(new, https=True))


class TestFromOneUserToAnother:
    async def test_the_data_of_the_first_is_dropped(self, one: SessionManager, storage: SpyStorage) -> None:
        old = await begin(one, "ann", of_ann=1, cart=[1], role="same", changed=1)
        session = await read(one, old)
        session["cart"].append(2)  # in a value of ann's
        session["user"], session["role"] = "bob", "same"  # in whatever order it is assigned
        session.setdefault("default", 1)
        session.update({"changed": 2})
        session.subject = "bob"
        expected = {"user": "bob", "role": "same", "default": 1, "changed": 2}
        assert session.plain() == expected
        session["after"] = 1
        assert await answer(one, session)
        found = await read(one, id_of(session))
        assert (found.subject, found.plain()) == ("bob", expected | {"after": 1})
        assert await storage.info(old) is None

    async def test_what_was_written_for_the_first_meanwhile_is_dropped_too(
        self, one: SessionManager, other: SessionManager
    ) -> None:
        old = await begin(one, "ann", of_ann=1)
        session, slow = await read(one, old), await read(other, old)
        session.subject = "bob"
        slow["of_ann_too"] = 1
        await other.commit(slow)
        await one.commit(session)
        assert await data_of(one, id_of(session)) == {}

    async def test_within_one_request(self, one: SessionManager) -> None:
        session = await read(one, await begin(one, visitor=1))
        session.subject = "ann"
        assert session.plain() == {"visitor": 1}
        session["of_ann"] = 1
        session.subject = "bob"
        assert session.plain() == {}
        session["of_bob"] = 1
        await one.commit(session)
        session.subject = "carol"
        assert session.plain() == {}
        await one.commit(session)
        found = await read(one, id_of(session))
        assert (found.subject, found.plain()) == ("carol", {})

    async def test_by_way_of_none(self, one: SessionManager) -> None:
        session = await read(one, await begin(one, "ann", of_ann=1))
        session.subject = None
        assert session.plain() == {"of_ann": 1}
        session.subject = "bob"
        assert session.plain() == {}

    @pytest.mark.parametrize("max_age", [None, DAY])
    async def test_an_expiry_of_the_first_is_dropped(
        self, storage: SpyStorage, clock: ManualClock, max_age: int | None
    ) -> None:
        manager = process(storage, max_age=max_age)
        session = await read(manager, await begin(manager, "ann", a=1))
        session.set_expiry(60)
        await manager.commit(session)
        await login(manager, id_of(session), "bob", b=1)
        clock.advance(61)
        assert [info.subject for info in await sessions(storage)] == ["bob"]

    async def test_an_expiry_that_is_set_with_it_is_kept(
        self, one: SessionManager, storage: SpyStorage, clock: ManualClock
    ) -> None:
        session = await read(one, await begin(one, "ann", a=1))
        session.set_expiry(60)
        session.subject = "bob"
        await one.commit(session)
        clock.advance(61)
        assert await sessions(storage) == []


class TestTheSameUserAgain:
    async def test_gets_a_new_id_and_keeps_the_data(self, one: SessionManager, storage: SpyStorage) -> None:
        old = await begin(one, "ann", a=1)
        new = await login(one, old, "ann")
        assert new != old
        assert await storage.info(old) is None
        found = await read(one, new)
        assert (found.subject, found.plain()) == ("ann", {"a": 1})

    async def test_unless_the_id_is_to_stay(self, storage: SpyStorage) -> None:
        keeping = process(storage, rotate_on_login=False)
        old = await begin(keeping, "ann", a=1)
        session = await read(keeping, old)
        session.subject = "ann"
        await keeping.commit(session)
        assert id_of(session) == old


class TestClear:
    @pytest.mark.parametrize("subject", [None, "bob"])
    @pytest.mark.parametrize("seconds", [60, 365 * DAY])
    async def test_forgets_an_expiry_where_the_storage_decides(
        self, storage: SpyStorage, clock: ManualClock, subject: str | None, seconds: int
    ) -> None:
        """The storage's own timeout is 14 days."""
        manager = process(storage, max_age=None)
        old = await begin(manager, "ann", a=1)
        session = await read(manager, old)
        session.set_expiry(seconds)
        await manager.commit(session)
        session = await read(manager, old)
        session.clear()
        session["b"] = 1
        if subject is not None:
            session.subject = subject
        assert await answer(manager, session)
        (info,) = await sessions(storage)
        assert info.expires_at is not None
        assert info.expires_at.timestamp() == clock() + 14 * DAY
        found = await read(manager, id_of(session))
        assert (found.subject, found.plain()) == (subject, {"b": 1})
        late = await read(process(storage), old)
        assert await answer(process(storage), late) is None

    async def test_may_set_another(self, storage: SpyStorage, clock: ManualClock) -> None:
        manager = process(storage, max_age=None)
        session = await read(manager, await begin(manager, a=1))
        session.set_expiry(365 * DAY)
        await manager.commit(session)
        session.clear()
        session["b"] = 1
        session.set_expiry(60)
        await manager.commit(session)
        clock.advance(61)
        assert await sessions(storage) == []

    async def test_of_a_session_that_was_moved_meanwhile(self, storage: SpyStorage) -> None:
        one, other = process(storage, max_age=None), process(storage, max_age=None)
        session = await read(one, await begin(one, a=1))
        session.set_expiry(60)
        await one.commit(session)
        slow = await read(other, id_of(session))
        new = await regenerate(one, id_of(session))
        slow.clear()
        slow["b"] = 1
        assert await answer(other, slow) is None
        assert await data_of(one, new) == {"b": 1}


class TestCosts:
    async def test_a_session_that_is_found_costs_nothing_more(
        self, one: SessionManager, storage: SpyStorage, clock: ManualClock
    ) -> None:
        id = await begin(one, a=1)
        storage.calls.clear()
        await answer(one, await read(one, id))
        session = await read(one, id)
        session["b"] = 1
        await one.commit(session)
        clock.advance(DAY / 2)
        await answer(one, await read(one, id))
        assert storage.calls == ["read", "read", "write", "read", "touch"]
        storage.calls.clear()
        new = await login(one, id)
        assert storage.calls == ["read", "rotate", "write"]
        storage.calls.clear()
        await one.end(one.open(new))
        assert storage.calls == ["invalidate"]

    async def test_an_unknown_id_asks_for_its_successor_once(
        self, one: SessionManager, storage: SpyStorage
    ) -> None:
        session = await read(one, "a" * 43)
        assert "Max-Age=0" in str(await answer(one, session))
        assert storage.calls == ["read", "successor"]
