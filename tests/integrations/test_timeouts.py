"""Which timeouts hold: the storage's, or what an integration is told."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import flask
import pytest

from sqlsessions import InvalidArgument, ManagedSessionStorage, SessionStorageMemory
from sqlsessions.integrations import flask as flask_sessions
from sqlsessions.integrations import quart as quart_sessions
from sqlsessions.integrations._web.changing import apply
from sqlsessions.integrations._web.manager import SessionManager
from sqlsessions.integrations._web.timeouts import Timeouts
from sqlsessions.integrations.aiohttp import AioHttpStorage
from sqlsessions.integrations.litestar import SessionConfig
from sqlsessions.integrations.starlette import SessionMiddleware
from sqlsessions.storage import DEFAULT
from sqlsessions.testing import HttpRequest, ManualClock, SpyStorage

from .moving import answer, begin, id_of, login, process, read, sessions
from .services import SERVICES, Service, flask_

pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web.NotAppKeyWarning")

HALF_AN_HOUR = 30 * 60
DAY = 24 * 60 * 60


async def app(*_: Any) -> None:
    pass


def middleware(storage: ManagedSessionStorage, **options: Any) -> SessionMiddleware:
    return SessionMiddleware(app, storage, **options)


MAKERS = [
    middleware,
    SessionConfig,
    AioHttpStorage,
    flask_sessions.SqlSessionInterface,
    quart_sessions.SqlSessionInterface,
]
every_integration = pytest.mark.parametrize(
    "made", MAKERS, ids=lambda each: f"{each.__module__}.{each.__name__}"
)


@pytest.fixture
def strict(clock: ManualClock) -> SpyStorage:
    return SpyStorage(SessionStorageMemory(ttl=HALF_AN_HOUR, clock=clock))


@pytest.mark.parametrize("service", SERVICES)
async def test_the_timeout_of_the_storage_holds(service: Service, strict: SpyStorage) -> None:
    async with service(strict) as send:
        await send(HttpRequest("GET", "/cached", "control=private&a=1"))
    (info,) = [info async for info in strict.sessions()]
    assert info.expires_at == info.created_at + timedelta(minutes=30)


@pytest.mark.parametrize("service", SERVICES)
async def test_unless_the_integration_is_told(service: Service, strict: SpyStorage) -> None:
    async with service(strict, ttl=DAY) as send:
        await send(HttpRequest("GET", "/cached", "control=private&a=1"))
    (info,) = [info async for info in strict.sessions()]
    assert info.expires_at == info.created_at + timedelta(days=1)


async def test_flask_is_told_by_its_own_setting_too(strict: SpyStorage) -> None:
    async with flask_(strict, PERMANENT_SESSION_LIFETIME=DAY) as send:
        await send(HttpRequest("GET", "/cached", "control=private&a=1"))
    (info,) = [info async for info in strict.sessions()]
    assert info.expires_at == info.created_at + timedelta(days=1)


def test_flask_still_has_the_lifetime_that_counts_as_not_set() -> None:
    assert flask.Flask(__name__).config["PERMANENT_SESSION_LIFETIME"] == timedelta(days=31)


async def test_the_cookie_ends_with_the_storage_s_timeout(strict: SpyStorage) -> None:
    manager = process(strict, DEFAULT)
    session = manager.open(None)
    session["a"] = 1
    await manager.commit(session)
    cookie = manager.headers.set_cookie(session, https=False)
    assert cookie is not None
    assert f"Max-Age={HALF_AN_HOUR};" in cookie


async def test_reading_with_the_storage_s_timeout_touches_once_per_five_percent(
    strict: SpyStorage, clock: ManualClock
) -> None:
    """Also after touches, which move the end of a session but not the time of its last write."""
    manager = process(strict, DEFAULT)
    id = await begin(manager, a=1)
    calls = []
    for _ in range(60):  # an hour
        clock.advance(60)
        strict.calls.clear()
        session = await read(manager, id)
        await answer(manager, session)
        assert id_of(session) == id
        calls.append("touch" in strict.calls)
    assert sum(calls) == 30  # every other minute: 5 % are 90 seconds


async def test_endless_sessions_are_neither_touched_nor_written(clock: ManualClock) -> None:
    storage = SpyStorage(SessionStorageMemory(ttl=None, clock=clock))
    manager = process(storage, DEFAULT)
    id = await begin(manager, a=1)
    clock.advance(DAY)
    storage.calls.clear()
    session = await read(manager, id)
    await answer(manager, session)
    assert storage.calls == ["read"]


@every_integration
class TestTheFormerName:
    def test_is_taken_with_a_warning(
        self, made: Any, strict: SpyStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "sqlsessions"):
            made(strict, max_age=60)
        assert caplog.messages == ["max_age is deprecated and will be refused: use ttl instead"]

    def test_is_not_taken_beside_the_new_one(self, made: Any, strict: SpyStorage) -> None:
        with pytest.raises(InvalidArgument, match="give ttl alone"):
            made(strict, max_age=60, ttl=60)


@every_integration
def test_a_ttl_above_the_absolute_timeout_is_refused(made: Any, strict: SpyStorage) -> None:
    with pytest.raises(InvalidArgument, match="ttl is above absolute_timeout"):
        made(strict, ttl=61, absolute_timeout=60)


def test_the_former_none_was_a_cookie_that_ends_with_the_browser(caplog: pytest.LogCaptureFixture) -> None:
    assert Timeouts.checked(DEFAULT, None, max_age=None) == Timeouts(DEFAULT, None, persistent=False)
    assert "expire_at_browser_close=True" in caplog.text


async def test_a_browser_that_forgets(strict: SpyStorage) -> None:
    manager = process(strict, DEFAULT, persistent=False)
    session = manager.open(None)
    session["a"] = 1
    await manager.commit(session)
    cookie = manager.headers.set_cookie(session, https=False)
    assert cookie is not None
    assert "Max-Age" not in cookie


class TestGuests:
    """Sessions without a subject, which have half a minute where users have the storage's half an hour."""

    @pytest.fixture
    def guests(self, strict: SpyStorage) -> SessionManager:
        return process(strict, DEFAULT, anonymous_ttl=30)

    async def test_a_login_takes_the_storage_s_timeout(
        self, strict: SpyStorage, guests: SessionManager
    ) -> None:
        id = await begin(guests, a=1)
        assert await spans(strict) == [30]
        await login(guests, id)
        assert await spans(strict) == [HALF_AN_HOUR]

    async def test_a_logout_that_keeps_the_session_makes_it_a_guest_s(
        self, strict: SpyStorage, guests: SessionManager
    ) -> None:
        session = await read(guests, await begin(guests, "ann", a=1))
        session.subject = None
        cookie = await answer(guests, session)
        assert cookie is not None
        assert "Max-Age=30;" in cookie
        assert await spans(strict) == [30]

    async def test_what_is_cleared_is_a_guest_s(self, strict: SpyStorage, guests: SessionManager) -> None:
        session = await read(guests, await begin(guests, "ann", a=1))
        session.clear()
        session["b"] = 1
        await answer(guests, session)
        assert await spans(strict) == [30]
        session = await read(guests, id_of(session))
        session.clear()
        session.subject = "bob"
        await answer(guests, session)
        assert await spans(strict) == [HALF_AN_HOUR]

    async def test_a_user_after_another_has_the_timeout_of_users(
        self, strict: SpyStorage, guests: SessionManager
    ) -> None:
        id = await begin(guests, "ann", a=1)
        session = await read(guests, id)
        session.set_expiry(DAY)
        await answer(guests, session)
        await login(guests, id, "bob")
        assert await spans(strict) == [HALF_AN_HOUR]

    async def test_a_timeout_of_its_own_stays(self, strict: SpyStorage, guests: SessionManager) -> None:
        session = await read(guests, await begin(guests, a=1))
        session.set_expiry(DAY)
        await answer(guests, session)
        assert await spans(strict) == [DAY]
        await login(guests, id_of(session))
        assert await spans(strict) == [DAY]

    async def test_the_cookie_follows_where_the_id_stays(self, strict: SpyStorage) -> None:
        guests = process(strict, DEFAULT, anonymous_ttl=30, rotate_on_login=False)
        session = await read(guests, id := await begin(guests, a=1))
        session.subject = "ann"
        cookie = await answer(guests, session)
        assert cookie is not None
        assert f"Max-Age={HALF_AN_HOUR};" in cookie
        assert id_of(session) == id

    async def test_the_cookie_follows_a_login_after_the_response_began(
        self, strict: SpyStorage, clock: ManualClock
    ) -> None:
        """Such as one in a WebSocket, which cannot set a cookie: the next response does."""
        guests = process(strict, DEFAULT, anonymous_ttl=30, rotate_on_login=False)
        late = await read(guests, id := await begin(guests, a=1))
        assert await answer(guests, late) is None
        late.state.answered = True
        late.subject = "ann"
        await guests.commit(late)
        assert await spans(strict) == [HALF_AN_HOUR]
        clock.advance(1)
        cookie = await answer(guests, await read(guests, id))
        assert cookie is not None
        assert f"Max-Age={HALF_AN_HOUR};" in cookie

    async def test_a_change_at_the_same_time_keeps_the_timeout_of_the_login(
        self, strict: SpyStorage, guests: SessionManager
    ) -> None:
        guests = process(strict, DEFAULT, anonymous_ttl=30, rotate_on_login=False)
        id = await begin(guests, a=1)
        slow = await read(guests, id)
        await login(guests, id)
        slow["b"] = 2
        await answer(guests, slow)
        assert await spans(strict) == [HALF_AN_HOUR]
        assert [info.subject for info in await sessions(strict)] == ["ann"]

    async def test_a_subject_that_the_data_has_named_for_longer_is_a_user_s(self, strict: SpyStorage) -> None:
        id = await begin(process(strict, DEFAULT, anonymous_ttl=30), user=7)
        keyed = process(strict, DEFAULT, anonymous_ttl=30, subject_key="user")
        await answer(keyed, await read(keyed, id))
        assert await spans(strict) == [HALF_AN_HOUR]

    async def test_a_look_touches_once_per_five_percent_of_the_guest_s_time(
        self, strict: SpyStorage, clock: ManualClock
    ) -> None:
        guests = process(strict, DEFAULT, anonymous_ttl=100)
        id = await begin(guests, a=1)
        for touched in (False, True, False, True):
            clock.advance(3)
            strict.calls.clear()
            await answer(guests, await read(guests, id))
            assert ("touch" in strict.calls) is touched
        assert await spans(strict) == [112]

    async def test_guests_may_stay_for_longer_than_users(self, strict: SpyStorage) -> None:
        guests = process(strict, 60, anonymous_ttl=None)
        id = await begin(guests, a=1)
        (info,) = await sessions(strict)
        assert info.expires_at is None
        await login(guests, id)
        assert await spans(strict) == [60]

    async def test_a_cart_is_merged_at_a_login_with_what_another_tab_adds(
        self, strict: SpyStorage, guests: SessionManager
    ) -> None:
        """The recipe of docs/integrations.md."""
        slow = await read(guests, id := await begin(guests, cart={"tea": 1}))
        tab = await read(guests, id)
        await apply(guests.changing.attempts(tab), lambda data: data["cart"].update(milk=1))
        slow.subject = "ann"

        def merge(data: dict[str, Any]) -> dict[str, int]:
            cart: dict[str, int] = data["cart"]
            cart["tea"] += 2
            return cart

        assert await apply(guests.changing.attempts(slow), merge) == {"tea": 3, "milk": 1}
        assert await spans(strict) == [HALF_AN_HOUR]
        assert (await read(guests, id_of(slow))).plain() == {"cart": {"tea": 3, "milk": 1}}

    def test_users_of_a_storage_that_does_not_tell_its_timeout_need_one(self, clock: ManualClock) -> None:
        storage = SessionStorageMemory(clock=clock)
        del storage.default_ttl
        with pytest.raises(InvalidArgument, match="anonymous_ttl needs a ttl beside it"):
            process(storage, DEFAULT, anonymous_ttl=30)
        process(storage, 60, anonymous_ttl=30)


async def spans(storage: SpyStorage) -> list[float]:
    """The seconds between the last write and the end of each session."""
    found = await sessions(storage)
    assert all(info.expires_at is not None for info in found)
    return [round((info.expires_at - info.updated_at).total_seconds()) for info in found if info.expires_at]


@every_integration
def test_a_guest_s_ttl_above_the_absolute_timeout_is_refused(made: Any, strict: SpyStorage) -> None:
    with pytest.raises(InvalidArgument, match="anonymous_ttl is above absolute_timeout"):
        made(strict, anonymous_ttl=61, absolute_timeout=60)
