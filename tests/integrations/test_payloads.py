"""What a request changed: properties."""

from __future__ import annotations

from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from sqlsessions import (
    CacheStorage,
    ManagedSessionStorage,
    SessionStorageMemory,
    SessionTooLarge,
    SqlSessionStorage,
)
from sqlsessions.integrations._web.payloads import Changes, Payloads
from sqlsessions.integrations._web.serializers import JSONSerializer
from sqlsessions.integrations._web.state import State
from sqlsessions.integrations.starlette import SessionMiddleware

from .support import CountingSerializer

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=8,
)
sessions = st.dictionaries(text, values, max_size=5)


def same(one: Any, other: Any) -> bool:
    """Whether values are the same, and not just equal as 1 and True are."""
    return repr(one) == repr(other)


@settings(deadline=None)
@given(old=sessions, new=sessions)
def test_changes_lead_from_one_state_to_another(old: dict[str, Any], new: dict[str, Any]) -> None:
    changes = Changes.between(old, new, JSONSerializer().draft)
    merged = changes.apply(old)
    assert merged.keys() == new.keys()
    assert all(same(merged[key], new[key]) for key in new)


@settings(deadline=None)
@given(old=sessions, mine=sessions, theirs=sessions)
def test_changes_of_different_keys_both_survive(
    old: dict[str, Any], mine: dict[str, Any], theirs: dict[str, Any]
) -> None:
    my_data = old | {f"mine {key}": value for key, value in mine.items()}
    their_data = old | {f"theirs {key}": value for key, value in theirs.items()}
    merged = Changes.between(old, my_data, JSONSerializer().draft).apply(their_data)
    assert merged == my_data | their_data


def test_true_is_not_one() -> None:
    changes = Changes.between({"a": 1, "b": 1}, {"a": True, "b": 1}, JSONSerializer().draft)
    assert changes.assigned == {"a": True}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (1, True),
        (0, False),
        (1, 1.0),
        (0.0, -0.0),
        ("1", 1),
        ([1], [True]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_equal_values_with_other_bytes_are_changes(before: Any, after: Any) -> None:
    """Among others, which are encoded together with them."""
    unchanged = {f"key {number}": [number] for number in range(200)}
    changes = Changes.between(unchanged | {"key": before}, unchanged | {"key": after}, JSONSerializer().draft)
    assert list(changes.assigned) == ["key"]
    assert not changes.removed


@pytest.mark.parametrize(("value", "most"), [(1, 2), ("text", 0), ([1], 500), (0.5, 500)])
def test_few_changes_of_many_keys_cost_few_encodings(value: Any, most: int) -> None:
    serializer = CountingSerializer()
    old = {f"key {number}": value for number in range(10_000)}
    assert Changes.between(old, old | {"key 5": "new"}, serializer.dumps).assigned == {"key 5": "new"}
    assert serializer.dumped <= most


@pytest.mark.parametrize(
    ("storage", "most"),
    [
        (SqlSessionStorage("sqlite://"), 1024 * 1024),
        (SqlSessionStorage("sqlite://", max_size=2_000_000), 2_000_000),
        (CacheStorage(SqlSessionStorage("sqlite://", max_size=1000)), 1000),
        (SessionStorageMemory(), 1024 * 1024),
    ],
)
def test_sessions_of_strangers_have_a_limit(storage: ManagedSessionStorage, most: int) -> None:
    payloads = Payloads(None, storage)
    empty = len(payloads.encode({"text": ""}, State()))
    fits = {"text": "x" * (most - empty)}
    assert len(payloads.encode(fits, State())) == most
    large = {"text": "x" * (most - empty + 1)}
    with pytest.raises(SessionTooLarge, match=f"{most + 1} bytes seen, the limit is {most}"):
        payloads.encode(large, State())
    stored = Payloads(None, SqlSessionStorage("sqlite://", max_size=10 * most)).encode(large, State())
    read = State()
    read.raw = stored
    assert payloads.encode(large, read) == stored  # as a request that only reads it does


async def test_a_session_that_is_too_large_leaves_the_old_one() -> None:
    storage = SessionStorageMemory()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope)
        request.session["text"] = "x" * int(request.query_params["size"])
        await PlainTextResponse("done")(scope, receive, send)

    wrapped = SessionMiddleware(app, storage=storage)
    transport = ASGITransport(wrapped, raise_app_exceptions=False)
    async with AsyncClient(transport=transport, base_url="https://service") as client:
        assert (await client.get("/?size=1000")).status_code == 200
        [before] = [info async for info in storage.sessions()]
        assert (await client.get(f"/?size={2**20}")).status_code == 500
        assert [info async for info in storage.sessions()] == [before]
