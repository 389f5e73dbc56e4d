"""A session that is not read yet is a dict in every respect, for Python and for C code."""

from __future__ import annotations

import copy
import json
import pickle
from collections import ChainMap, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import orjson
import pytest
from pydantic import BaseModel, TypeAdapter

from sqlsessions.integrations._web.session import Session
from sqlsessions.integrations._web.werkzeug import SqlSession

DATA = {"a": 1, "b": [2]}


class Model(BaseModel):
    a: int = 0
    b: list[int] = []


class Struct(msgspec.Struct):
    a: int = 0
    b: list[int] = []


def unread(kind: type[Session] = Session) -> Session:
    return kind.lazy("cookie", lambda session: session.fill(DATA))


def keywords(**values: Any) -> Any:
    return values


def matched(value: Any) -> Any:
    match value:
        case {"a": 1, **rest}:
            return rest
        case _:
            return None


def updated(value: Any) -> Any:
    data: dict[str, Any] = {}
    data.update(value)
    return data


def merged(value: Any) -> Any:
    data: dict[str, Any] = {"z": 0}
    data |= value
    return data


def assigned(value: Any) -> Any:
    value["c"] = 3
    return dict(value)


def deleted(value: Any) -> Any:
    del value["a"]
    return dict(value)


def cleared(value: Any) -> Any:
    value.clear()
    return dict(value)


def extended(value: Any) -> Any:
    value |= {"c": 3}
    return dict(value)


LOOKS: list[Callable[[Any], Any]] = [
    bool,
    len,
    list,
    set,
    dict,
    sorted,
    copy.copy,
    copy.deepcopy,
    updated,
    merged,
    matched,
    assigned,
    deleted,
    cleared,
    extended,
    OrderedDict,
    json.dumps,
    lambda value: {**value},
    lambda value: keywords(**value),
    lambda value: value | {"z": 1},
    lambda value: {"z": 1} | value,
    lambda value: value == {},
    lambda value: value != {},
    lambda value: {} == value,  # noqa: SIM300 (the other way is above)
    lambda value: {} != value,  # noqa: SIM300
    lambda value: value == DATA,
    lambda value: value != DATA,
    lambda value: [value] == [DATA],
    lambda value: value == unread(),
    lambda value: value != unread(),
    lambda value: value["a"],
    lambda value: "a" in value,
    lambda value: value.get("a"),
    lambda value: list(value.keys()),
    lambda value: list(value.values()),
    lambda value: list(value.items()),
    lambda value: value.keys() & {"a"},
    lambda value: list(reversed(value)),
    lambda value: next(iter(value)),
    lambda value: value.copy(),
    lambda value: value.pop("a"),
    lambda value: value.pop("none", None),
    lambda value: value.popitem(),
    lambda value: value.setdefault("a", 5),
    lambda value: value.setdefault("c", 5),
    lambda value: "%(a)s" % value,  # noqa: UP031
    lambda value: "{a}".format_map(value),
    lambda value: pickle.loads(pickle.dumps(value)),  # noqa: S301
    lambda value: pickle.loads(pickle.dumps(value, protocol=0)),  # noqa: S301
    lambda value: json.dumps(value, indent=1, sort_keys=True),
    lambda value: json.JSONEncoder().encode({"within": value}),
    lambda value: ChainMap(value)["a"],
    lambda value: isinstance(value, Mapping) and orjson.dumps(value),
    lambda value: isinstance(value, bytes) or msgspec.json.encode(value),
    lambda value: Model.model_validate(value).b,
    lambda value: TypeAdapter(dict[str, Any]).validate_python(value),
]


@pytest.mark.parametrize("kind", [Session, SqlSession])
@pytest.mark.parametrize("look", LOOKS)
def test_it_is_what_a_dict_is(look: Callable[[Any], Any], kind: type[Session]) -> None:
    assert look(unread(kind)) == look(copy.deepcopy(DATA))


def test_every_method_of_a_dict_reads_first_or_does_not_look() -> None:
    """Every public method is our own; the rest of `dir(dict)` looks at no data, or is of no use to callers."""
    without_data = {
        *("__class_getitem__", "__getattribute__", "__init__", "__new__", "__sizeof__", "fromkeys"),
        *("__ge__", "__gt__", "__le__", "__lt__"),  # NotImplemented, as for a dict
    }
    own = {name for kind in Session.__mro__[: Session.__mro__.index(dict)] for name in vars(kind)}
    inherited_from_object = {name for name in dir(dict) if name not in vars(dict)}
    assert set(dir(dict)) - own - without_data - inherited_from_object == set()


@pytest.mark.parametrize(
    "look",
    [
        orjson.dumps,
        lambda value: orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS),
        msgspec.json.encode,
        msgspec.msgpack.encode,
        msgspec.to_builtins,
        lambda value: msgspec.convert(value, Struct),
        lambda value: TypeAdapter(dict[str, Any]).dump_json(value),
    ],
)
def test_what_looks_into_a_dict_without_asking_it_is_an_error(look: Callable[[Any], Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        look(unread())
    read = unread()
    assert read.info is None
    assert look(read) == look(DATA)


@pytest.mark.parametrize("look", LOOKS)
def test_what_cannot_be_read_is_an_error(look: Callable[[Any], Any]) -> None:
    def fail(_session: Session) -> None:
        raise ConnectionError

    session = Session.lazy("cookie", fail)
    with pytest.raises((ConnectionError, ValueError)):  # pydantic makes it a ValueError
        look(session)
    session.detach()
    with pytest.raises((RuntimeError, TypeError, ValueError)):  # C code looks into it without asking it
        look(session)


def test_its_type_can_be_told_after_its_request() -> None:
    session = unread()
    session.detach()
    assert isinstance(session, Session)
    assert not isinstance(session, str)
    with pytest.raises(RuntimeError, match="cannot be now"):
        len(session)


def test_starlettes_own_methods() -> None:
    session = unread()
    session.mark_accessed()
    assert (session.accessed, session.modified, session.loaded) == (True, False, False)
    session.mark_modified()
    assert (session.accessed, session.modified, session.loaded) == (True, True, True)


def test_information_is_read_first() -> None:
    session = unread()
    assert session.info is None
    assert session.loaded
    assert session.accessed


def test_its_data_is_in_no_text() -> None:
    for session in (unread(), Session(DATA)):
        assert "[2]" not in f"{session}{session!r}"
