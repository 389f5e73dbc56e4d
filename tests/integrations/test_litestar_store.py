"""`LitestarStore`: what Litestar's own stores do, and namespaces that end no one else's."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from litestar import Litestar, Request, get, post
from litestar.middleware.session.server_side import ServerSideSessionConfig
from litestar.stores.base import NamespacedStore, Store
from litestar.stores.registry import StoreRegistry
from litestar.testing import TestClient

from sqlsessions import InvalidArgument, InvalidArgumentType, SqlSessionStorage
from sqlsessions.integrations.litestar import LitestarStore, Session
from sqlsessions.testing import ManualClock, SpyStorage


@pytest.fixture
def store(storage: SpyStorage) -> LitestarStore:
    return LitestarStore(storage)


def test_is_made_without_an_event_loop(url: str) -> None:
    store = LitestarStore(SqlSessionStorage(url), "sessions")
    assert isinstance(store, NamespacedStore)
    assert isinstance(store, Store)
    assert store.with_namespace("a").namespace == "sessions/a"


async def test_get_of_nothing(store: LitestarStore) -> None:
    assert await store.get("foo") is None
    assert await store.get("foo", renew_for=10) is None


@pytest.mark.parametrize("value", ["text äöü", b"bytes \x00\xff", "", b""])
async def test_set_and_get(store: LitestarStore, value: str | bytes) -> None:
    await store.set("foo", value)
    assert await store.get("foo") == (value.encode() if isinstance(value, str) else value)


async def test_set_replaces(store: LitestarStore) -> None:
    await store.set("foo", "old", expires_in=5)
    await store.set("foo", "new")
    assert await store.get("foo") == b"new"
    assert await store.expires_in("foo") == -1


@pytest.mark.parametrize("key", ["", "\0", "litestar:\0foo", "k" * 10_000, "\ud800", "Foo", "foo "])
async def test_keys_are_exact(store: LitestarStore, key: str) -> None:
    await store.set("foo", "another")
    await store.set(key, "value")
    assert await store.get(key) == b"value"
    assert await store.get("foo") == b"another"


@pytest.mark.parametrize("expires_in", [2, 2.0, timedelta(seconds=2)])
async def test_expires(store: LitestarStore, clock: ManualClock, expires_in: Any) -> None:
    await store.set("foo", "bar", expires_in=expires_in)
    clock.advance(1.9)
    assert await store.get("foo") == b"bar"
    assert await store.exists("foo")
    clock.advance(0.1)
    assert await store.get("foo") is None
    assert not await store.exists("foo")
    assert await store.expires_in("foo") is None


@pytest.mark.parametrize("expires_in", [0.25, timedelta(milliseconds=250), 1e-9])
async def test_expires_within_a_second(store: LitestarStore, clock: ManualClock, expires_in: Any) -> None:
    await store.set("foo", "bar", expires_in=expires_in)
    assert await store.get("foo") == b"bar"
    assert await store.expires_in("foo") == 0
    clock.advance(0.251)
    assert await store.get("foo") is None


@pytest.mark.parametrize("expires_in", [None, 0, 0.0, timedelta(0)])
async def test_never_expires(clock: ManualClock, storage: SpyStorage, expires_in: Any) -> None:
    """Whatever the storage's own settings are."""
    store = LitestarStore(storage)
    await store.set("foo", "old", expires_in=1)
    await store.set("foo", "bar", expires_in=expires_in)
    assert await store.expires_in("foo") == -1
    clock.advance(100 * 365 * 24 * 3600)
    assert await store.get("foo", renew_for=10) == b"bar"
    assert await store.expires_in("foo") == -1  # what has no expiry gets none by being renewed


@pytest.mark.parametrize("expires_in", [-1, -0.5, timedelta(seconds=-1)])
async def test_expired_before_it_was_set(store: LitestarStore, expires_in: Any) -> None:
    await store.set("foo", "old")
    await store.set("foo", "bar", expires_in=expires_in)
    assert await store.get("foo") is None


async def test_absolute_timeout_of_the_storage_does_not_end_values(url: str, clock: ManualClock) -> None:
    async with SqlSessionStorage(url, ttl=5, max_age=10, clock=clock) as storage:
        store = LitestarStore(storage)
        await store.set("foo", "bar")
        clock.advance(1000)
        assert await store.get("foo") == b"bar"


@pytest.mark.parametrize("renew_for", [10, 10.0, timedelta(seconds=10)])
async def test_get_renews(store: LitestarStore, clock: ManualClock, renew_for: Any) -> None:
    await store.set("foo", "bar", expires_in=1)
    assert await store.get("foo", renew_for=renew_for) == b"bar"
    assert await store.expires_in("foo") == 10
    clock.advance(9.9)
    assert await store.get("foo") == b"bar"
    clock.advance(0.1)
    assert await store.get("foo") is None


@pytest.mark.parametrize("renew_for", [None, 0, timedelta(0)])
async def test_get_renews_nothing(
    store: LitestarStore, clock: ManualClock, storage: SpyStorage, renew_for: Any
) -> None:
    await store.set("foo", "bar", expires_in=1)
    storage.calls.clear()
    await store.get("foo", renew_for=renew_for)
    assert storage.calls == ["read"]
    clock.advance(1)
    assert await store.get("foo") is None


async def test_expires_in(store: LitestarStore, clock: ManualClock) -> None:
    assert await store.expires_in("foo") is None
    await store.set("foo", "bar")
    assert await store.expires_in("foo") == -1
    await store.set("foo", "bar", expires_in=10)
    assert await store.expires_in("foo") == 10
    clock.advance(2.5)
    assert await store.expires_in("foo") == 7


async def test_delete(store: LitestarStore) -> None:
    await store.delete("foo")
    await store.set("foo", "bar")
    await store.delete("foo")
    assert await store.get("foo") is None


async def test_delete_all(store: LitestarStore) -> None:
    keys = [f"key-{i}" for i in range(10)]
    await asyncio.gather(*(store.set(key, "value") for key in keys))
    await store.delete_all()
    assert not any([await store.exists(key) for key in keys])


async def test_delete_expired_counts(store: LitestarStore, clock: ManualClock, storage: SpyStorage) -> None:
    await store.set("a", "x", expires_in=5)
    await store.with_namespace("b").set("b", "x", expires_in=5)
    await store.set("c", "x", expires_in=3 * 3600 * 24)
    await store.set("d", "x")
    clock.advance(2 * 3600 * 24)
    assert await store.delete_expired() == 2
    assert await store.delete_expired() == 0
    assert await store.exists("c")
    assert await store.exists("d")


async def test_namespaces_keep_keys_apart(store: LitestarStore) -> None:
    stores = [
        store,
        store.with_namespace("a"),
        store.with_namespace("a").with_namespace("a"),
        store.with_namespace("aa"),
        store.with_namespace("b"),
    ]
    for number, one in enumerate(stores):
        await one.set("foo", str(number))
    assert [await one.get("foo") for one in stores] == [b"0", b"1", b"2", b"3", b"4"]
    await stores[1].delete("foo")
    assert [await one.exists("foo") for one in stores] == [True, False, True, True, True]


async def test_delete_all_ends_children_and_no_others(store: LitestarStore, storage: SpyStorage) -> None:
    parent = store.with_namespace("a")
    ended = [parent, parent.with_namespace("b"), parent.with_namespace("b/c"), parent.with_namespace("%")]
    kept = [store, store.with_namespace("ab"), store.with_namespace("b"), store.with_namespace("A")]
    for one in ended + kept:
        await one.set("foo", "bar")
    await storage.write_bytes("nobody's session", b"data")
    await storage.write_bytes("a user's session", b"data", subject="a")
    await parent.delete_all()
    assert not any([await one.exists("foo") for one in ended])
    assert all([await one.exists("foo") for one in kept])
    await store.delete_all()
    assert not any([await one.exists("foo") for one in kept])
    assert await storage.read_bytes("nobody's session") == b"data"
    assert await storage.read_bytes("a user's session") == b"data"


async def test_a_path_names_the_same_namespace(storage: SpyStorage) -> None:
    await LitestarStore(storage, "a/b").set("foo", "bar")
    assert await LitestarStore(storage).with_namespace("a").with_namespace("b").get("foo") == b"bar"


@pytest.mark.parametrize("namespace", ["", "/", "a/", "/a", "a//b", "a\0b", "x" * 247])
def test_refused_namespaces(storage: SpyStorage, namespace: str) -> None:
    with pytest.raises(InvalidArgument):
        LitestarStore(storage, namespace)
    with pytest.raises(InvalidArgument):
        LitestarStore(storage).with_namespace(namespace)


def test_refused_types(storage: SpyStorage) -> None:
    with pytest.raises(InvalidArgumentType):
        LitestarStore("sqlite:///sessions.db")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentType):
        LitestarStore(storage, 1)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentType):
        LitestarStore(storage, "a").with_namespace(None)  # type: ignore[arg-type]


async def test_the_storage_stays_open(store: LitestarStore) -> None:
    async with store:
        await store.set("foo", "bar")
    assert await store.get("foo") == b"bar"


@post("/count", sync_to_thread=False)
def count(request: Request[Any, Any, Any]) -> int:
    request.session["count"] = request.session.get("count", 0) + 1
    return int(request.session["count"])


@get("/cached", cache=60, sync_to_thread=False)
def cached() -> str:
    return "cached"


def test_serves_litestar_s_own_sessions_and_cache(storage: SpyStorage) -> None:
    """From an event loop of its own each time, as `TestClient` makes them."""
    root = LitestarStore(storage)
    app = Litestar(
        [count, cached],
        middleware=[ServerSideSessionConfig(exclude="/cached").middleware],
        stores=StoreRegistry(default_factory=root.with_namespace),
    )
    client = TestClient(app)
    assert [client.post("/count").json() for _ in range(3)] == [1, 2, 3]
    assert client.get("/cached").text == "cached"
    for _ in range(2):
        with TestClient(app) as fresh:
            assert fresh.get("/cached").text == "cached"
            assert fresh.post("/count").json() == 1

    async def subjects() -> list[str]:
        return sorted({info.subject or "" async for info in storage.sessions()})

    assert asyncio.run(subjects()) == ["\x1flitestar:response_cache", "\x1flitestar:sessions"]


async def test_no_user_s_sessions_are_values(storage: SpyStorage) -> None:
    store = LitestarStore(storage, "rate_limit")
    await store.set("foo", "bar")
    await store.with_namespace("child").set("foo", "bar")
    for user in ("litestar:rate_limit", "litestar:", "litestar:rate_limit/child", "rate_limit"):
        await storage.write_bytes("a user's session", b"data", subject=user)
        assert await storage.revoke(user) == 1
    assert await store.exists("foo")
    assert await store.with_namespace("child").exists("foo")


async def test_no_session_is_given_the_subject_of_a_store(storage: SpyStorage) -> None:
    await LitestarStore(storage, "rate_limit").set("foo", "bar")
    [subject] = [info.subject async for info in storage.sessions()]
    with pytest.raises(InvalidArgument, match="reserved"):
        Session().subject = subject


async def test_values_from_before_subjects_were_reserved_are_there(storage: SpyStorage) -> None:
    id = sha256(b"litestar:drafts\0ada").hexdigest()
    await storage.write_bytes(id, b"Dear Charles", subject="litestar:drafts")
    store = LitestarStore(storage, "drafts")
    assert await store.get("ada") == b"Dear Charles"
    await store.set("ada", "Dear Ada")
    assert await storage.revoke("litestar:drafts") == 0
    await store.delete_all()
    assert not await store.exists("ada")
