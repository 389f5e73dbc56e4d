"""Logins on sessions that moved, ended, or were another user's."""

from __future__ import annotations

import asyncio

import pytest

from sqlsessions.integrations._web.manager import SessionManager
from sqlsessions.integrations._web.session import Session
from sqlsessions.storage import DEFAULT, Default
from sqlsessions.testing import ManualClock, SpyStorage

from .moving import (
    DAY,
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
        assert manager.headers.set_cookie(new, https=True)
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
        assert "Max-Age=0" in str(other.headers.set_cookie(new, https=True))


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

    @pytest.mark.parametrize("ttl", [DEFAULT, DAY])
    async def test_an_expiry_of_the_first_is_dropped(
        self, storage: SpyStorage, clock: ManualClock, ttl: Default | int
    ) -> None:
        manager = process(storage, ttl)
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
        manager = process(storage, DEFAULT, persistent=False)
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
        manager = process(storage, DEFAULT, persistent=False)
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
        one, other = process(storage, DEFAULT, persistent=False), process(storage, DEFAULT, persistent=False)
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
