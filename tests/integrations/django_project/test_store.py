"""The session store of Django's engine by itself: expiry, settings, processes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.backends.base import CreateError, UpdateError
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.core.management import call_command
from django.test import override_settings

from sqlsessions import SessionInfo, StorageUnavailable, new_session_id, schema
from sqlsessions.integrations._web.portal import run
from sqlsessions.integrations.django import SessionStore
from sqlsessions.integrations.django import storage as configured
from sqlsessions.testing import ManualClock, SpyStorage

from .browsers import begun, in_use, refused  # noqa: F401 (a fixture)


class TestHelpers:
    @pytest.mark.parametrize(
        ("old", "new"),
        [("listed", "list_sessions"), ("end_listed", "end_session"), ("end_others", "end_other_sessions")],
    )
    def test_earlier_names(self, old: str, new: str) -> None:
        for prefix in ("", "a"):
            assert getattr(SessionStore, prefix + old) is getattr(SessionStore, prefix + new)


class TestExpiry:
    def test_counts_from_the_last_change(self, clock: ManualClock) -> None:
        with override_settings(SESSION_COOKIE_AGE=100):
            client, key = begun()
            assert client.cookies["sessionid"]["max-age"] == 100
            clock.advance(60)
            client.get("/put/second")
            clock.advance(60)
            assert client.get("/read").json() == {"first": 1, "second": 1}
            clock.advance(41)
            assert refused(key)

    def test_may_count_from_every_request(self, clock: ManualClock, storage: SpyStorage) -> None:
        with override_settings(SESSION_COOKIE_AGE=100, SESSION_SAVE_EVERY_REQUEST=True):
            client, key = begun()
            for _ in range(3):
                clock.advance(60)
                assert client.get("/untouched").cookies["sessionid"]["max-age"] == 100
            assert "touch" in storage.calls
            assert storage.calls.count("write") == 1
            run(storage.invalidate(key))
            assert not client.get("/untouched").cookies  # it may have been sent before the end
            clock.advance(10)
            assert client.get("/untouched").cookies["sessionid"].value != key

    def test_may_be_the_sessions_own(self, clock: ManualClock) -> None:
        client, key = begun()
        client.get("/expire/60")
        assert client.cookies["sessionid"]["max-age"] == 60
        clock.advance(61)
        assert refused(key)

    def test_when_the_browser_is_closed(self, clock: ManualClock) -> None:
        client, key = begun()
        client.get("/expire/0")
        assert client.cookies["sessionid"]["max-age"] == ""
        clock.advance(settings.SESSION_COOKIE_AGE - 1)
        assert not refused(key)
        clock.advance(2)
        assert refused(key)

    def test_in_the_past_ends_at_once(self, clock: ManualClock) -> None:
        session = SessionStore()
        session.set_expiry(-timedelta(seconds=10))
        session.save()
        clock.advance(0.000_002)
        assert not session.exists(session.session_key)

    def test_clearsessions_purges(self, storage: SpyStorage, clock: ManualClock) -> None:
        begun()
        clock.advance(settings.SESSION_COOKIE_AGE + 1)
        call_command("clearsessions")
        assert storage.calls[-1] == "purge"
        assert run(storage.purge()) == 0


def list_of(storage: SpyStorage) -> list[SessionInfo]:
    async def listed() -> list[SessionInfo]:
        return [info async for info in storage.sessions()]

    return run(listed())


class TestStore:
    def test_what_was_ended_is_not_saved(self, clock: ManualClock) -> None:
        changes: list[Callable[[SessionStore], object]] = [
            lambda session: session.update({"a": 1}),
            lambda session: session.get("first"),
        ]
        for change in changes:
            _, key = begun()
            session = SessionStore(key)
            change(session)
            SessionStore().delete(key)
            with pytest.raises(UpdateError):
                session.save()
            assert session.load() == {}
            assert session.session_key == key  # with which the middleware leaves the cookie alone
            clock.advance(10)
            assert session.load() == {}
            assert session.session_key is None

    def test_what_was_cleared_unread_is_not_made_anew(self) -> None:
        session = SessionStore(key := new_session_id())
        session.clear()
        session["a"] = 1
        with pytest.raises(UpdateError):
            session.save()
        assert not session.exists(key)

    def test_what_was_ended_gets_no_new_key(self, storage: SpyStorage) -> None:
        _, key = begun()
        read, unread = SessionStore(key), SessionStore(key)
        read.get("first")
        unread.clear()
        SessionStore().delete(key)
        for session in (read, unread):
            session.cycle_key()
            assert session.session_key == key
            assert session.modified
            with pytest.raises(UpdateError):
                session.save()
        assert list_of(storage) == []

    def test_a_session_is_created_once(self) -> None:
        session = SessionStore(key := new_session_id())
        session.clear()
        session["a"] = 1
        session.save(must_create=True)
        assert session.session_key != key
        with pytest.raises(CreateError):
            session.save(must_create=True)

    async def test_blocking_methods_do_not_block_an_event_loop(self) -> None:
        session = SessionStore(new_session_id())
        for use in (lambda: session["a"], session.save, session.flush, SessionStore.clear_expired):
            with pytest.raises(SynchronousOnlyOperation, match="await session"):
                use()

    def test_the_background_loop_does_not_wait_for_itself(self) -> None:
        async def nothing() -> None: ...

        async def within() -> None:
            run(nothing())

        with pytest.raises(RuntimeError, match="await the coroutine"):
            run(within())


class Marked:
    """A serializer of a project's own."""

    def dumps(self, value: Any) -> bytes:
        return b"marked:" + json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data.removeprefix(b"marked:"))


class TestSettings:
    def test_serializer(self, storage: SpyStorage) -> None:
        with override_settings(SESSION_SERIALIZER=f"{__name__}.Marked"):
            client, key = begun()
            assert client.get("/read").json() == {"first": 1}
        assert b"marked:" in run(storage.read_bytes(key))

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (None, "a dict"),
            ("sqlite://", "a dict"),
            ({}, "either 'url' or 'storage'"),
            ({"url": "sqlite://", "storage": SpyStorage}, "either 'url' or 'storage'"),
            ({"url": "sqlite://", "pool": 5}, "no key 'pool'.*pool_size"),
            ({"url": "sqlite://", "ttl": 5}, "SESSION_COOKIE_AGE"),
            ({"url": "sqlite://", "pool_size": 0}, "pool_size"),
            ({"url": "oracle://"}, "oracle"),
            ({"url": "sqlite://", "keyed_ids": "yes"}, "'keyed_ids' must be True, 'move', 'accept' or False"),
            ({"url": "sqlite://", "keyed_ids": True, "keys": []}, "'keyed_ids' sets 'keys' itself"),
            ({"storage": "sqlsessions.SessionStorageMemory", "ttl": 5}, "there are only 'anonymous_ttl'"),
            ({"url": "sqlite://", "anonymous_ttl": 0}, "anonymous_ttl must be above 0"),
            ({"url": "sqlite://", "touch_every": 0}, "touch_every must be above 0"),
            ({"url": "sqlite://", "anonymous_ttl": None}, "anonymous_ttl must be a number of seconds"),
            ({"url": "sqlite://", "anonymous_ttl": "short"}, "anonymous_ttl must be seconds"),
            ({"storage": "sqlsessions.storage.new_session_id"}, "ManagedSessionStorage"),
        ],
    )
    def test_mistakes(self, given: Any, message: str) -> None:
        with (
            override_settings(SQLSESSIONS=given),
            pytest.raises(ImproperlyConfigured, match=f"SQLSESSIONS: .*{message}"),
        ):
            SessionStore()

    def test_mistakes_are_found_at_the_start(self) -> None:
        ended = python(
            """
            from django.conf import settings
            settings.configure(SESSION_ENGINE="sqlsessions.integrations.django", SQLSESSIONS={"uri": ""})
            from django.core.handlers.wsgi import WSGIHandler
            settings.MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware"]
            WSGIHandler()
            """
        )
        assert ended.returncode == 1
        assert "ImproperlyConfigured: the setting SQLSESSIONS" in ended.stderr

    def test_options_reach_the_storage(self) -> None:
        with override_settings(SQLSESSIONS={"url": "sqlite://", "max_size": 10}):
            session = SessionStore()
            session["a"] = "much too long"
            with pytest.raises(ValueError, match="too large"):
                session.save()
            asyncio.run(configured().aclose())


def python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


FORK = """
    import os, sys, warnings
    from django.conf import settings
    url, *early = sys.argv[1:]
    settings.configure(SESSION_ENGINE="sqlsessions.integrations.django", SQLSESSIONS={"url": url})
    from sqlsessions.integrations.django import SessionStore

    def put(key, name):
        session = SessionStore(key)
        session[name] = 1
        session.save()
        return session.session_key

    warnings.simplefilter("ignore", DeprecationWarning)  # as newer Pythons warn of forks with threads
    key = put(None, "before") if early else None
    children = []
    for i in range(3):
        if not (child := os.fork()):
            put(key, f"child {i}")
            sys.exit()
        children.append(child)
    key = put(key, "parent")
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    print(sorted(put(key, "after") and SessionStore(key).load()))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_forks(url: str) -> None:
    # SQLite itself forbids to fork while connections are open: https://sqlite.org/howtocorrupt.html
    ended = python(FORK, url, *(["early"] if "postgresql" in url else []))
    assert ended.stderr == ""
    names = ["after", "parent"]
    if "postgresql" in url:
        names = ["after", "before", "child 0", "child 1", "child 2", "parent"]
    assert ended.stdout == f"{names}\n"


class TestOverriding:
    @pytest.fixture
    def opened(self, url: str) -> Iterator[Any]:
        """The storage that a setting with a URL opens."""
        with override_settings(SQLSESSIONS={"url": url}):
            yield configured()

    def test_another_serializer_keeps_the_storage(self, opened: Any) -> None:
        for _ in range(3):
            with override_settings(SESSION_SERIALIZER=f"{__name__}.Reversed"):
                assert configured() is opened
                session = SessionStore()
                session["a"] = 1
                session.save()
                assert run(opened.read_bytes(session.session_key)).endswith(b"{")
            assert configured() is opened

    def test_another_storage_closes_the_one_that_was_opened(self, opened: Any) -> None:
        SessionStore().save()
        with (
            override_settings(SQLSESSIONS={"storage": lambda: opened}),
            pytest.raises(StorageUnavailable, match="closed"),
        ):
            run(use_until_closed(opened))
        assert run(configured().info(new_session_id())) is None

    async def test_also_within_the_event_loop_that_uses_it(self, opened: Any) -> None:
        session = SessionStore()
        await session.asave()
        with override_settings(SQLSESSIONS={"storage": lambda: opened}):
            pass
        with pytest.raises(StorageUnavailable, match="closed"):
            await use_until_closed(opened)

    def test_a_storage_of_the_projects_own_stays_open(self, storage: SpyStorage) -> None:
        begun()
        with override_settings(SQLSESSIONS={"storage": lambda: storage}):
            begun()
        assert run(storage.info(new_session_id())) is None


class TestKeyedIds:
    """Ids under ``SECRET_KEY``."""

    @pytest.fixture
    def kept(self, tmp_path: Path) -> str:
        url = f"sqlite:///{tmp_path / 'sessions.db'}"
        asyncio.run(schema.upgrade(url))
        return url

    def test_sessions_move_to_a_key_and_to_the_next_one(self, kept: str) -> None:
        def loaded(keyed: Any, secret: str, *fallbacks: str) -> dict[str, Any]:
            """The session as it is found with some settings."""
            with override_settings(
                SQLSESSIONS={"url": kept, "keyed_ids": keyed},
                SECRET_KEY=secret,
                SECRET_KEY_FALLBACKS=list(fallbacks),
            ):
                data: dict[str, Any] = SessionStore(key).load()
                if data:
                    digests.append(configured().digest(key))
                return data

        with override_settings(SQLSESSIONS={"url": kept}):
            session = SessionStore()
            session["a"] = 1
            session.save()
            key = session.session_key or ""
        digests = [sha256(key.encode()).digest()]
        steps: list[tuple[Any, ...]] = [
            ("accept", "one"),
            ("move", "one"),
            (True, "one"),
            (True, "two", "one"),
            (True, "two"),
        ]
        for keyed, *secrets in steps:
            assert loaded(keyed, *secrets) == {"a": 1}
        assert digests[0] == digests[1]
        assert len(set(digests)) == 3
        assert digests[-1] == digests[-2] != digests[2] == digests[3]
        assert loaded(True, "three") == {}
        assert loaded("move", "one", "two") == {"a": 1}

    def test_another_secret_key_leaves_a_storage_without_keyed_ids_alone(self, kept: str) -> None:
        with override_settings(SQLSESSIONS={"url": kept}):
            before = configured()
            with override_settings(SECRET_KEY="two"):
                assert configured() is before


class Reversed:
    def dumps(self, value: dict[str, Any]) -> bytes:
        return json.dumps(value)[::-1].encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data.decode()[::-1])


async def use_until_closed(storage: Any) -> None:
    """Use a storage until it is closed, which happens in the background."""
    async with asyncio.timeout(30):
        while True:
            await storage.info(new_session_id())
