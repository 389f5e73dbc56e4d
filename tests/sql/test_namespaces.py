"""Namespaces and keyed ids: several services on one database that know nothing of each other."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqlsessions import (
    CacheStorage,
    EncryptedStorage,
    InvalidArgument,
    InvalidArgumentType,
    InvalidSessionId,
    ManagedSessionStorage,
    SessionConflict,
    SessionNotFound,
    SqlSessionStorage,
    new_session_id,
)
from sqlsessions._digests import NAMESPACED, Digests, Hmac
from sqlsessions.info import Rebinding
from sqlsessions.records import digest
from sqlsessions.testing import ManualClock, StorageContract

from .support import TINY, each_database, query, sqlite

KEY, OTHER = secrets.token_bytes(32), secrets.token_bytes(32)


class Keyed(StorageContract):
    """The contract, with digests that are not SHA-256."""

    options: dict[str, Any]

    async def create_storage(self, clock: ManualClock) -> ManagedSessionStorage:
        return SqlSessionStorage("sqlite://", clock=clock, **self.options)


@pytest.mark.variant
class TestNamespace(Keyed):
    options = {"namespace": "shop"}


@pytest.mark.variant
class TestCacheOverKeyed(Keyed):
    many = 100

    async def create_storage(self, clock: ManualClock) -> ManagedSessionStorage:
        keyed = SqlSessionStorage("sqlite://", clock=clock, namespace="shop", keys=[KEY])
        return CacheStorage(EncryptedStorage(keyed, [KEY]))


Services = dict[str, SqlSessionStorage]


@pytest.fixture
async def services(sql_url: str, clock: ManualClock) -> AsyncIterator[Services]:
    """Several on one database."""
    of: dict[str, dict[str, Any]] = {
        "plain": {},
        "shop": {"namespace": "shop"},
        "office": {"namespace": "office"},
        "keyed shop": {"namespace": "keyed shop", "keys": [KEY]},
    }
    async with AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(SqlSessionStorage(sql_url, clock=clock, **options, **TINY))
            for name, options in of.items()
        }


@each_database
async def test_services_know_nothing_of_each_other(services: Services, clock: ManualClock) -> None:
    for name, storage in services.items():
        await storage.write_bytes("id", name.encode(), subject="admin")
        await storage.write_bytes("large", name.encode() * 50, subject="admin")
        clock.advance(1)
    keys = {name: {info.key async for info in storage.sessions()} for name, storage in services.items()}
    assert [len(each) for each in keys.values()] == [2] * 4
    assert len(set.union(*keys.values())) == 8
    for name, storage in services.items():
        assert await storage.read_bytes("id") == name.encode()
        assert await storage.read_bytes("large") == name.encode() * 50
        assert {info.key async for info in storage.sessions("admin")} == keys[name]
        for key in set.union(*(each for other, each in keys.items() if other != name)):
            assert not await storage.invalidate_key(key)
            assert await storage.load_key(key) is None
            assert await storage.infos([key]) == {}
            assert not await storage.rebind(key, Rebinding(1, bytes.upper))
            with pytest.raises(SessionConflict):
                await storage.write_key(key, b"planted", if_match=1)
            with pytest.raises(SessionNotFound):
                await storage.read_key(key, lambda channel: channel.read())
    await services["shop"].invalidate("id")
    assert await services["plain"].revoke("admin") == 2
    assert [len([info async for info in storage.sessions()]) for storage in services.values()] == [0, 1, 2, 2]
    await services["office"].rotate("large", "new")
    assert await services["office"].read_bytes("new") == b"office" * 50
    assert await services["keyed shop"].revoke("admin", keep="id") == 1


@each_database
async def test_a_row_that_is_planted_by_sql_is_not_found_with_a_key(services: Services, sql_url: str) -> None:
    storage = services["keyed shop"]
    await storage.write_bytes("other", b"data")
    guess = digest("guess")
    for planted in (guess, storage.digest("other")[:12] + guess[:20]):
        await query(
            sql_url, "UPDATE sessions SET id = :to WHERE id = :of", to=planted, of=storage.digest("other")
        )
        assert await storage.load("guess") is None
        await query(
            sql_url, "UPDATE sessions SET id = :to WHERE id = :of", to=storage.digest("other"), of=planted
        )
    assert await storage.read_bytes("other") == b"data"


@sqlite
async def test_a_key_is_what_makes_the_digest(sql_url: str) -> None:
    id = new_session_id()
    async with SqlSessionStorage(sql_url, keys=[KEY]) as one, SqlSessionStorage(sql_url, keys=[OTHER]) as two:
        info = await one.write_bytes(id, b"data")
        assert info.key == one.digest(id).hex() != two.digest(id).hex()
        assert await two.load(id) is None
        assert await one.load(id) is not None


def test_without_a_namespace_and_a_key_digests_are_as_before() -> None:
    assert Digests(None, None).of is digest


def test_digests_are_of_one_length_and_differ() -> None:
    made = [Digests(name, keys) for name in (None, "a", "ab", "é") for keys in (None, [KEY], [OTHER])]
    found = {each.of(id) for each in made for id in ("id", "b", "bid")}
    assert len(found) == 3 * len(made)
    assert {len(each) for each in found} == {32}
    for each in made:
        named = {other.of("id") for other in made if other.prefix == each.prefix}
        assert {each.owns(other.of("id")) for other in made} == {True, False}
        assert all(each.owns(name) for name in named)
        assert each.of("id").startswith(NAMESPACED) == (each.prefix is not None)


@pytest.mark.parametrize("options", [{"namespace": "shop"}, {"keys": [KEY]}])
def test_what_is_no_id_is_refused(options: dict[str, Any]) -> None:
    storage = SqlSessionStorage("sqlite://", **options)
    for id in ("", "x" * 4097, "\ud800"):
        with pytest.raises(InvalidSessionId):
            storage.digest(id)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"namespace": ""}, InvalidArgument, "namespace must hold 1 to 255 characters"),
        ({"namespace": "x" * 256}, InvalidArgument, "namespace must hold 1 to 255 characters"),
        ({"namespace": b"shop"}, InvalidArgumentType, "namespace must be a str or None, not bytes"),
        ({"namespace": "\ud800"}, InvalidArgument, "encodable as UTF-8"),
        ({"keys": []}, InvalidArgument, "at least one key"),
        ({"keys": [KEY, OTHER]}, InvalidArgument, "keys must hold one key"),
        ({"keys": [b"short"]}, InvalidArgument, "key 1 of keys must hold 32 bytes, not 5"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        SqlSessionStorage("sqlite://", **options)
    assert caught.value.__context__ is None


@given(st.binary(min_size=1, max_size=64), st.binary(max_size=300))
def test_the_hmac_is_that_of_the_standard_library(key: bytes, data: bytes) -> None:
    assert Hmac(key).of(data) == hmac.digest(key, data, hashlib.sha256)
