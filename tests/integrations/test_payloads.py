"""Serializers, and what a request changed: properties."""

from __future__ import annotations

import dataclasses
import math
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlsessions import InvalidArgument, InvalidArgumentType
from sqlsessions.integrations._web import serializers as _serializers
from sqlsessions.integrations._web.payloads import Changes, Payloads
from sqlsessions.integrations._web.serializers import JSONSerializer
from sqlsessions.integrations._web.session import UNSET, State

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


def with_only(library: str | None) -> JSONSerializer:
    """The serializer as it is where just one of the faster libraries, or none, is installed."""

    def imported(name: str) -> Any:
        if library is None or name.partition(".")[0] != library:
            raise ImportError(name)
        return import_module(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_serializers, "import_module", imported)
        return JSONSerializer()


SERIALIZERS = {str(library): with_only(library) for library in ("orjson", "msgspec", None)}
each = pytest.mark.parametrize("serializer", SERIALIZERS.values(), ids=SERIALIZERS)


def same(one: Any, other: Any) -> bool:
    """Whether values are the same, and not just equal as 1 and True are."""
    return repr(one) == repr(other)


@each
@settings(deadline=None)
@given(data=sessions)
def test_data_comes_back_as_it_was(serializer: JSONSerializer, data: dict[str, Any]) -> None:
    for reader in SERIALIZERS.values():
        assert same(reader.loads(serializer.dumps(data)), data)


@each
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (math.nan, InvalidArgument),
        (math.inf, InvalidArgument),
        ([1, [math.nan]], InvalidArgument),
        ("\ud800", InvalidArgument),
        (2**64, InvalidArgument),
        (-(2**63) - 1, InvalidArgument),
        (10**5000, InvalidArgument),
        ({1, 2}, InvalidArgumentType),
        (b"secret", InvalidArgumentType),
        (datetime(2026, 1, 1, tzinfo=UTC), InvalidArgumentType),
        (dataclasses.make_dataclass("secret", ["a"])(1), InvalidArgumentType),
        (object(), InvalidArgumentType),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_has_not_is_refused(serializer: JSONSerializer, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="JSON can hold") as caught:
        serializer.dumps({"secret key": value})
    assert "secret key" not in str(caught.value)
    assert caught.value.__cause__ is None


@each
def test_a_cycle_is_refused(serializer: JSONSerializer) -> None:
    cycle: dict[str, Any] = {}
    cycle["self"] = cycle
    with pytest.raises(InvalidArgument, match="no cycles"):
        serializer.dumps(cycle)


@each
def test_tuples_and_number_keys_become_what_json_has(serializer: JSONSerializer) -> None:
    odd: dict[Any, Any] = {1: (1, 2)}
    assert serializer.loads(serializer.dumps(odd)) == {"1": [1, 2]}


@settings(deadline=None)
@given(old=sessions, new=sessions)
def test_changes_lead_from_one_state_to_another(old: dict[str, Any], new: dict[str, Any]) -> None:
    changes = Changes.between(old, new, JSONSerializer())
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
    merged = Changes.between(old, my_data, JSONSerializer()).apply(their_data)
    assert merged == my_data | their_data


def test_true_is_not_one() -> None:
    changes = Changes.between({"a": 1, "b": 1}, {"a": True, "b": 1}, JSONSerializer())
    assert changes.assigned == {"a": True}


@settings(deadline=None)
@given(data=sessions, ttl=st.none() | st.integers(1, 10**15), browser=st.booleans())
def test_a_sessions_own_expiry_is_kept_beside_its_data(
    data: dict[str, Any], ttl: int | None, browser: bool
) -> None:
    payloads, state = Payloads(None), State()
    state.ttl, state.browser = ttl, browser
    found = State()
    _, opened = payloads.decode(payloads.encode(data, state), found)
    assert same(opened, data)
    assert (found.ttl, found.browser) == (ttl, browser)
    plain = State()
    payloads.decode(payloads.encode(data, State()), plain)
    assert plain.ttl is UNSET


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
    changes = Changes.between(unchanged | {"key": before}, unchanged | {"key": after}, JSONSerializer())
    assert list(changes.assigned) == ["key"]
    assert not changes.removed


@pytest.mark.parametrize(("value", "most"), [(1, 2), ("text", 0), ([1], 500), (0.5, 500)])
def test_few_changes_of_many_keys_cost_few_encodings(value: Any, most: int) -> None:
    serializer = CountingSerializer()
    old = {f"key {number}": value for number in range(10_000)}
    assert Changes.between(old, old | {"key 5": "new"}, serializer).assigned == {"key 5": "new"}
    assert serializer.dumped <= most
