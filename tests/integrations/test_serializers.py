"""Serializers: what is written comes back, or is refused; whichever libraries are installed."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import pickle
import uuid
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqlsessions import InvalidArgument, InvalidArgumentType, InvalidSessionData
from sqlsessions.integrations._web import serializers as _serializers
from sqlsessions.integrations._web.plain import DEPTH, DIGITS
from sqlsessions.integrations._web.serializers import JSONSerializer, Verified, checked_serializer
from sqlsessions.integrations._web.werkzeug import TaggedSerializer


class Colour(enum.Enum):
    RED = "red"


class Bad(enum.Enum):
    TIME = datetime(2026, 1, 1, tzinfo=UTC)
    NUMBER = math.nan


class Number(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    WORD = "word"


class Markup(str):
    __slots__ = ()


Pair = namedtuple("Pair", ["left", "right"])  # noqa: PYI024 (typed ones are made of it)
Point = dataclasses.make_dataclass("Point", ["x"])


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

any_text = st.text(max_size=8) | st.text(
    st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF), max_size=3
)
json_leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**DIGITS) + 1, 10**DIGITS - 1)
    | st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, int("9" * DIGITS)])
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text
    | st.sampled_from(["null", "NaN", "1234567890123456789", "[" * 300])
)
json_data = st.dictionaries(
    any_text,
    st.recursive(
        json_leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
        max_leaves=8,
    ),
    max_size=5,
)
TAKEN: list[tuple[Any, Any]] = [
    ((1, "a"), [1, "a"]),
    (Pair(1, 2), [1, 2]),
    (uuid.UUID(int=7), str(uuid.UUID(int=7))),
    (Colour.RED, "red"),
    (Number.ONE, 1),
    (Word.WORD, "word"),
    (Markup("<b>"), "<b>"),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    ({1: "a", 2.5: "b", False: "c", None: "d"}, {"1": "a", "2.5": "b", "false": "c", "null": "d"}),
    ({Number.ONE: 1, Markup("x"): 2}, {"1": 1, "x": 2}),
]
REFUSED: list[Any] = [
    math.nan,
    math.inf,
    -math.inf,
    10**DIGITS,
    -(10**DIGITS),
    {1, 2},
    b"secret",
    bytearray(b"secret"),
    Bad.TIME,
    Bad.NUMBER,
    Point("secret"),
    datetime(2026, 1, 1, tzinfo=UTC),
    date(2026, 1, 1),
    Decimal("1.5"),
    1j,
    object(),
    {(1, 2): 3},
    {b"secret": 1},
    {uuid.UUID(int=7): 1},
    {Colour.RED: 1},
    {math.nan: 1},
]


def same(one: Any, other: Any) -> bool:
    """Whether values are the same, and not just equal as 1 and True are."""
    return repr(one) == repr(other)


def nested(levels: int, *, kind: str = "list") -> dict[str, Any]:
    """Data of so many levels."""
    value: Any = {"": 1} if kind == "dict" else [1]
    for _ in range(levels - 2):
        value = {"": value} if kind == "dict" else [value]
    return {"a": value}


@each
@settings(deadline=None)
@given(data=json_data)
def test_data_comes_back_as_it_was(serializer: JSONSerializer, data: dict[str, Any]) -> None:
    for reader in SERIALIZERS.values():
        assert same(reader.loads(serializer.dumps(data)), data)


@each
@settings(deadline=None)
@given(data=json_data)
def test_equal_data_has_equal_bytes(serializer: JSONSerializer, data: dict[str, Any]) -> None:
    read = serializer.loads(serializer.dumps(data))
    assert serializer.dumps(read) == serializer.dumps(data)


@each
@settings(deadline=None)
@given(data=json_data, more=st.sampled_from([None, "null", 2**70, "\ud800", (1,), {1: 2}]))
def test_what_is_taken_does_not_depend_on_the_rest(
    serializer: JSONSerializer, data: dict[str, Any], more: Any
) -> None:
    for value, expected in TAKEN:
        for beside in ({}, {"more": more}, data):
            read = serializer.loads(serializer.dumps(beside | {"value": value}))
            assert same(read["value"], expected)
    for value in REFUSED:
        for beside in ({}, {"more": more}, data):
            with pytest.raises(InvalidSessionData) as caught:
                serializer.dumps(beside | {"value": [{"here": value}]})
            assert caught.value.path == ("value", 0, "here")


@each
@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_the_error_names_the_keys_and_not_the_value(serializer: JSONSerializer, value: Any) -> None:
    with pytest.raises(InvalidSessionData, match=r"JSON has no|640 digits") as caught:
        serializer.dumps({"cart": [1, {"price": value}]})
    assert str(caught.value).endswith(", at session['cart'][1]['price']")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert isinstance(caught.value, InvalidArgument)
    assert isinstance(caught.value, InvalidArgumentType)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TypeError)


def test_long_paths_and_keys_are_shortened() -> None:
    long = "\ud800\n" + "x" * 100
    data: Any = object()
    for key in [*"zyxwvutsr", long]:
        data = {key: data}
    with pytest.raises(InvalidSessionData) as caught:
        JSONSerializer().dumps(data)
    shown = str(caught.value).partition(", at ")[2]
    assert shown == rf"session['\ud800\n{'x' * 38}'...]['r']['s']['t']['u']['v']...['y']['z']"
    assert len(caught.value.path) == 10
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (str(copy), copy.path) == (str(caught.value), caught.value.path)


TAGGED = checked_serializer(TaggedSerializer())
PICKLED = checked_serializer(Verified(pickle.dumps, pickle.loads))
ALL: dict[str, JSONSerializer | Verified] = {**SERIALIZERS, "tagged": TAGGED, "pickle": PICKLED}


@pytest.mark.parametrize("serializer", ALL.values(), ids=ALL)
@pytest.mark.parametrize("kind", ["list", "dict"])
def test_the_depth_of_data_has_one_limit(serializer: JSONSerializer | Verified, kind: str) -> None:
    deepest = nested(DEPTH, kind=kind)
    assert serializer.loads(serializer.dumps(deepest)) == deepest
    for levels in (DEPTH + 1, 255, 1_100, 20_000):
        with pytest.raises(InvalidSessionData, match=r"100 levels|Recursion"):
            serializer.dumps({"b": 1} | nested(levels, kind=kind))


@pytest.mark.parametrize("serializer", ALL.values(), ids=ALL)
def test_data_that_holds_itself_is_refused(serializer: JSONSerializer | Verified) -> None:
    cycle: dict[str, Any] = {}
    cycle["self"] = [cycle, cycle]
    with pytest.raises(InvalidSessionData):
        serializer.dumps(cycle)


@each
def test_brackets_in_text_are_no_levels(serializer: JSONSerializer) -> None:
    data = {"text": "[{" * 500}
    assert serializer.loads(serializer.dumps(data)) == data


@each
@settings(deadline=None)
@given(data=json_data)
def test_a_confirmed_draft_is_what_is_stored(serializer: JSONSerializer, data: dict[str, Any]) -> None:
    draft = serializer.draft(data)
    if serializer.confirm(data, draft) == draft:
        assert same(serializer.loads(draft), data)


def test_a_number_that_json_has_not_is_no_none() -> None:
    """orjson writes null for it."""
    for serializer in SERIALIZERS.values():
        draft = serializer.draft({"a": None})
        assert serializer.confirm({"a": None}, draft) == draft
        with pytest.raises(InvalidSessionData):
            serializer.confirm({"a": math.nan}, serializer.draft({"a": math.nan}))


class MsgPack:
    """A serializer that writes keys that it does not read."""

    def dumps(self, value: dict[str, Any]) -> bytes:
        return msgspec.msgpack.encode(value)

    def loads(self, data: bytes) -> Any:
        return msgspec.msgpack.decode(data, type=dict[str, int | dict[str, int]])


def test_what_a_serializer_does_not_read_is_refused() -> None:
    serializer = checked_serializer(MsgPack())
    assert serializer.loads(serializer.dumps({"a": {"b": 1}})) == {"a": {"b": 1}}
    with pytest.raises(InvalidSessionData, match="does not read what it wrote") as caught:
        serializer.dumps({"x": 1, "a": {"b": 1, "c": "secret"}})
    assert caught.value.path[0] == "a"
    assert "secret" not in str(caught.value)


def test_what_a_serializer_raises_is_not_shown() -> None:
    def dumps(value: Any) -> bytes:
        if "secret" in json.dumps(value):
            raise KeyError("secret")
        return json.dumps(value).encode()

    serializer = Verified(dumps, json.loads)
    with pytest.raises(InvalidSessionData, match="raised KeyError") as caught:
        serializer.dumps({"a": 1, "b": [1, {"c": "secret"}]})
    assert str(caught.value).endswith("at session['b'][1]['c']")
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize(
    ("dumps", "error"), [(json.dumps, InvalidArgumentType), (lambda _: b"[]", InvalidSessionData)]
)
def test_a_serializer_that_gives_something_else(dumps: Callable[[Any], Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"must return bytes|does not read"):
        Verified(dumps, json.loads).dumps({"a": 1})


def test_no_memory_is_no_fault_of_the_data() -> None:
    def dumps(_value: Any) -> bytes:
        raise MemoryError

    with pytest.raises(MemoryError):
        Verified(dumps, json.loads).dumps({})
