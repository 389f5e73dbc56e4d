"""py-key-value's stores over our storages."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from key_value.aio.protocols import AsyncKeyValue
from key_value.aio.wrappers.prefix_collections import PrefixCollectionsWrapper

from sqlsessions import InvalidArgument, InvalidArgumentType, ManagedSessionStorage, SessionStorageMemory
from sqlsessions.integrations._web.subjects import checked_subject
from sqlsessions.integrations.key_value import KeyValueStore
from sqlsessions.testing import ManualClock, SpyStorage


@pytest.fixture
def store(storage: ManagedSessionStorage) -> KeyValueStore:
    return KeyValueStore(storage)


async def test_values(store: KeyValueStore) -> None:
    assert isinstance(store, AsyncKeyValue)
    await store.put("a", {"n": 1})
    await store.put("a", {"n": 2}, collection="other")
    assert await store.get("a") == {"n": 1}
    assert await store.get("a", collection="other") == {"n": 2}
    assert await store.get("b") is None
    assert await store.delete("a")
    assert not await store.delete("a")
    assert await store.get("a") is None
    assert await store.get("a", collection="other") == {"n": 2}


async def test_many_at_once(store: KeyValueStore) -> None:
    keys = [str(number) for number in range(200)]
    await store.put_many(keys, [{"n": number} for number in range(200)])
    assert await store.get_many(["7", "none", "199"]) == [{"n": 7}, None, {"n": 199}]
    assert await store.delete_many([*keys, "0", "none"]) == 200
    assert await store.get_many(keys) == [None] * 200


async def test_of_a_key_that_is_given_twice_the_last_value_counts(store: KeyValueStore) -> None:
    await store.put_many(["a", "a"], [{"n": 1}, {"n": 2}])
    assert await store.get("a") == {"n": 2}


async def test_a_time_to_live(clock: ManualClock, storage: SpyStorage) -> None:
    store = KeyValueStore(storage)
    await store.put("a", {"n": 1}, ttl=100)
    value, ttl = await store.ttl("a")
    assert value == {"n": 1}
    assert ttl == pytest.approx(100, abs=5)
    clock.advance(101)
    assert await store.get("a") is None
    await store.cull()
    assert [info async for info in storage.sessions()] == []


async def test_without_one_a_value_stays(clock: ManualClock) -> None:
    store = KeyValueStore(SessionStorageMemory(ttl=60, max_age=60, clock=clock))
    await store.put("a", {"n": 1})
    clock.advance(1e9)
    assert await store.get("a") == {"n": 1}


async def test_a_collection_can_be_destroyed(store: KeyValueStore) -> None:
    await store.put("a", {"n": 1}, collection="one")
    await store.put("a", {"n": 2}, collection="one:")
    await store.put("a", {"n": 3}, collection="x" * 1000)
    await store.put("a", {"n": 4}, collection="x" * 1001)
    assert await store.destroy_collection("one")
    assert not await store.destroy_collection("one")
    assert await store.destroy_collection("x" * 1000)
    assert await store.get("a", collection="one:") == {"n": 2}
    assert await store.get("a", collection="x" * 1001) == {"n": 4}


async def test_values_belong_to_no_user(store: KeyValueStore, storage: ManagedSessionStorage) -> None:
    await store.put("a", {"n": 1}, collection="ann")
    assert await storage.revoke("ann") == 0
    (info,) = [info async for info in storage.sessions()]
    assert info.subject is not None
    with pytest.raises(InvalidArgument):
        checked_subject(info.subject)


async def test_py_key_value_s_wrappers(store: KeyValueStore) -> None:
    wrapped = PrefixCollectionsWrapper(store, prefix="v1")
    await wrapped.put("a", {"n": 1}, collection="one")
    assert await wrapped.get("a", collection="one") == {"n": 1}
    assert await store.get("a", collection="one") is None


@given(one=st.tuples(st.text(min_size=1), st.text()), other=st.tuples(st.text(min_size=1), st.text()))
async def test_no_two_keys_meet(one: tuple[str, str], other: tuple[str, str]) -> None:
    store = KeyValueStore(SessionStorageMemory())
    await store.put(one[1], {"n": 1}, collection=one[0])
    assert await store.get(other[1], collection=other[0]) == ({"n": 1} if one == other else None)


@pytest.mark.parametrize("wrong", [None, "sqlite://", object()])
def test_what_is_no_storage(wrong: Any) -> None:
    with pytest.raises(InvalidArgumentType):
        KeyValueStore(wrong)
