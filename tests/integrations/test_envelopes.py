"""What is kept beside the data of a session, and takes no key from the application."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlsessions.integrations._web.envelopes import MARK
from sqlsessions.integrations._web.payloads import Payloads
from sqlsessions.integrations._web.serializers import Verified
from sqlsessions.integrations._web.state import UNSET, State

from .test_serializers import json_data, same

RESERVED = "__sqlsessions__"
FORMS: list[Any] = [[1, True], [None, False], [0, None, 5], [5, True, 7], [], "text", None, {"a": 1}, [1, 2]]

data = json_data | st.builds(
    lambda found, value: found | {RESERVED: value}, json_data, st.sampled_from(FORMS)
)
ttls = st.just(UNSET) | st.none() | st.integers(1, 1000 * 366 * 24 * 3600 * 10**6)
untils = st.just(UNSET) | st.integers(1, 2**62)


def state_of(ttl: Any, browser: bool | None, until: Any, authenticated: int | None = None) -> State:
    state = State()
    state.ttl, state.browser, state.cookie_until, state.authenticated = ttl, browser, until, authenticated
    return state


def read(payloads: Payloads, raw: bytes) -> tuple[dict[str, Any], tuple[Any, ...]]:
    stored, state = payloads.read(raw), State()
    assert stored is not None
    found = payloads.take(stored, state)
    return found, (state.ttl, state.browser, state.cookie_until, state.authenticated)


@pytest.mark.parametrize("serializer", [None, Verified(pickle.dumps, pickle.loads)], ids=["json", "pickle"])
@settings(deadline=None)
@given(
    data=data,
    ttl=ttls,
    browser=st.none() | st.booleans(),
    until=untils,
    authenticated=st.none() | st.integers(0, 2**62),
)
def test_everything_comes_back(
    serializer: Any,
    data: dict[str, Any],
    ttl: Any,
    browser: bool | None,
    until: Any,
    authenticated: int | None,
) -> None:
    payloads = Payloads(serializer)
    if ttl is until is UNSET and authenticated is None:
        browser = None
    found, kept = read(payloads, payloads.encode(data, state_of(ttl, browser, until, authenticated)))
    assert same(found, data)
    assert kept == (ttl, browser, until, authenticated)


@settings(deadline=None)
@given(data=data)
def test_what_is_read_is_unchanged(data: dict[str, Any]) -> None:
    payloads, state = Payloads(None), State()
    raw = payloads.encode(data, state_of(5, True, UNSET))
    stored = payloads.read(raw)
    assert stored is not None
    found, state.raw = payloads.take(stored, state), raw
    assert payloads.encode(found, state) == raw
    assert payloads.unchanged(raw, state)
    assert not payloads.changes(raw, found)


def test_plain_data_has_no_envelope() -> None:
    assert Payloads(None).encode({"a": 1}, State()) == b'{"a":1}'


@pytest.mark.parametrize(
    ("legacy", "kept"),
    [
        ([60_000_000, True], (60_000_000, True, UNSET)),
        ([None, False], (None, False, UNSET)),
        ([0, None, 5], (UNSET, None, 5)),
    ],
)
def test_data_of_earlier_versions_is_read(legacy: list[Any], kept: tuple[Any, ...]) -> None:
    payloads = Payloads(None)
    raw = json.dumps({"a": 1, RESERVED: legacy}).encode()
    assert read(payloads, raw) == ({"a": 1}, (*kept, None))
    state = state_of(*kept)
    state.raw = raw
    assert payloads.unchanged(payloads.encode({"a": 1}, state), state)


@pytest.mark.parametrize("value", ["text", [], [1], ["a", True], [1, 2], [1, True, 2, 3], {"a": 1}, None])
def test_a_key_of_the_same_name_in_data_of_earlier_versions_is_the_applications(value: Any) -> None:
    found, kept = read(Payloads(None), json.dumps({RESERVED: value}).encode())
    assert found == {RESERVED: value}
    assert kept == (UNSET, None, UNSET, None)


def test_a_serializer_whose_bytes_look_like_an_envelope() -> None:
    looks_alike = Verified(
        lambda value: MARK + json.dumps(value).encode(), lambda raw: json.loads(raw.removeprefix(MARK))
    )
    payloads = Payloads(looks_alike)
    for state in (State(), state_of(5, True, UNSET)):
        raw = payloads.encode({"a": 1}, state)
        assert read(payloads, raw)[0] == {"a": 1}


@pytest.mark.parametrize("length", range(len(MARK), 29))
def test_an_incomplete_envelope_is_unreadable(length: int) -> None:
    payloads = Payloads(None)
    assert payloads.read(payloads.encode({}, state_of(5, True, 7, 9))[:length]) is None


@pytest.mark.parametrize(
    "head",
    [
        b"1\x07" + b"\0" * 16,
        b"1\1" + b"\x80" * 16,
        b"1" + b"\0" * 9 + b"\xff" * 8,
        b"2" + b"\0" * 17 + b"\xff" * 8,
        b"3" + b"\0" * 16,
    ],
)
def test_an_envelope_of_impossible_values_is_unreadable(head: bytes) -> None:
    assert Payloads(None).read(MARK + head + b"{}") is None
