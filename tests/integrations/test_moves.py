"""Requests whose session got another id, or ended, meanwhile: two managers stand for two processes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from sqlsessions import Snapshot, UnsupportedOperation, new_session_id
from sqlsessions.integrations._web.manager import SessionManager
from sqlsessions.testing import ManualClock, SpyStorage

from .moving import (
    DAY,
    DROPPED,
    answer,
    begin,
    data_of,
    id_of,
    login,
    process,
    read,
    regenerate,
    sessions,
)


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

            async def invalidate_key(self, key: str, **options: Any) -> bool:
                await self.moved()
                return await super().invalidate_key(key, **options)

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
