"""Django: requests that come late, when their session has another key or has ended."""

from __future__ import annotations

import pytest
from django.contrib.sessions.backends.base import UpdateError
from django.test import override_settings

from sqlsessions import SessionInfo
from sqlsessions.integrations._web.portal import run
from sqlsessions.integrations.django import SessionStore
from sqlsessions.testing import SpyStorage

from .browsers import begun, browser, in_use, key_of  # noqa: F401 (a fixture)

USER = "_auth_user_id"


def sessions(storage: SpyStorage) -> list[SessionInfo]:
    async def listed() -> list[SessionInfo]:
        return [info async for info in storage.sessions()]

    return run(listed())


def user_of(key: str | None, storage: SpyStorage) -> str | None:
    assert key is not None
    info = run(storage.info(key))
    return None if info is None else info.subject


def test_a_key_that_was_changed_is_empty_and_saves_nothing(storage: SpyStorage) -> None:
    client, key = begun()
    client.get("/login/7")
    late = browser(key)
    for path, status in (("/read", 200), ("/put/late", 400), ("/nested", 400)):
        answer = late.get(path)
        assert (answer.status_code, bool(answer.cookies)) == (status, False)
    cycling = SessionStore(key)
    cycling.cycle_key()
    with pytest.raises(UpdateError):
        cycling.save()
    with override_settings(SESSION_SAVE_EVERY_REQUEST=True):
        answer = late.get("/untouched")
        assert (answer.status_code, bool(answer.cookies)) == (200, False)
    assert [info.subject for info in sessions(storage)] == ["7"]
    assert client.get("/read").json() == {"first": 1}


def test_a_change_follows_a_new_key_though_it_is_an_error() -> None:
    _, key = begun()
    slow, moved = SessionStore(key), SessionStore(key)
    slow["late"] = 1
    moved.cycle_key()
    moved["soon"] = 1
    moved.save()
    with pytest.raises(UpdateError):
        slow.save()
    assert slow.session_key == key
    assert SessionStore(moved.session_key).load() == {"first": 1, "late": 1, "soon": 1}


def test_two_changes_of_the_key_at_once(storage: SpyStorage) -> None:
    _, key = begun()
    one, other = SessionStore(key), SessionStore(key)
    assert one["first"] == other["first"] == 1
    one.cycle_key()
    other.cycle_key()
    other["late"] = 1
    with pytest.raises(UpdateError):
        other.save()
    assert len(sessions(storage)) == 1
    assert SessionStore(one.session_key).load() == {"first": 1, "late": 1}


@pytest.mark.parametrize("looks", [False, True])
def test_what_is_saved_after_a_logout_is_no_login(storage: SpyStorage, looks: bool) -> None:
    client, _ = begun()
    client.get("/login/7")
    slow = SessionStore(key_of(client))
    slow["late"] = 1
    if looks:
        assert len(slow.listed()) == 1
    client.get("/logout")
    slow.cycle_key()
    with pytest.raises(UpdateError):
        slow.save()
    assert sessions(storage) == []


@pytest.mark.parametrize("cycles", [False, True])
def test_a_login_after_a_logout_is_a_session_of_its_own(storage: SpyStorage, cycles: bool) -> None:
    _, key = begun()
    slow = SessionStore(key)
    assert slow["first"] == 1
    SessionStore(key).flush()
    if cycles:
        slow.cycle_key()
    slow[USER] = "7"
    slow["own"] = 1
    slow.save()
    assert slow.session_key != key
    assert user_of(slow.session_key, storage) == "7"
    assert dict(slow.items()).keys() - {"_session_expiry"} == {USER, "own"}
    assert SessionStore(slow.session_key).load() == {USER: "7", "own": 1}


async def test_the_same_user_again_gets_a_new_key(storage: SpyStorage) -> None:
    session = SessionStore()
    for _ in range(2):
        await session.aset(USER, "7")
        await session.asave()
    first = session.session_key  # which no browser had between the two
    again = SessionStore(first)
    await again.aset(USER, "7")
    await again.asave()
    assert again.session_key not in (None, first)
    assert [info.subject async for info in storage.sessions()] == ["7"]
    await again.asave()
    assert await again.aload() == {USER: "7"}


def test_ending_by_an_old_key_ends_the_session(storage: SpyStorage) -> None:
    _, key = begun()
    moved = SessionStore(key)
    moved.cycle_key()
    SessionStore().delete(key)
    SessionStore().delete("no key")
    assert sessions(storage) == []
