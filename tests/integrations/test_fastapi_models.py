"""Whatever a model of `SessionModel` accepts comes back equal."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from fastapi import Depends, FastAPI, Response
from httpx import ASGITransport, AsyncClient
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    Secret,
    SecretBytes,
    SecretStr,
    computed_field,
)
from pydantic.alias_generators import to_camel

from sqlsessions import InvalidSessionData, SessionStorageMemory
from sqlsessions.integrations._web.serializers import JSONSerializer
from sqlsessions.integrations.fastapi import SessionMiddleware, SessionModel


class Kind(enum.Enum):
    A = "a"
    B = (1, 2)


class Size(enum.IntEnum):
    SMALL = 1


class Inner(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)

    some_name: int = 1
    begins_at: datetime = datetime(2026, 1, 1, 12, 30, 1, 5, tzinfo=UTC)
    password: SecretStr = SecretStr("")

    @computed_field
    def doubled(self) -> int:
        return self.some_name * 2


class Aliased(BaseModel):
    plain: int = Field(0, alias="Plain")
    read: int = Field(0, validation_alias="Read")
    written: int = Field(0, serialization_alias="plain")
    chosen: int = Field(0, validation_alias=AliasChoices("One", "Other"))
    deep: int = Field(0, validation_alias=AliasPath("above", "below"))


class Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    moment: datetime | None = None
    day: date = date(2026, 1, 1)
    span: timedelta = timedelta(seconds=1.5)
    id: UUID = UUID(int=7)
    price: Decimal = Decimal("1.50")
    large: int = 2**70
    either: int | str = "1"
    data: bytes = b""
    kind: Kind = Kind.A
    size: Size = Size.SMALL
    numbers: set[int] = set()
    frozen: frozenset[str] = frozenset()
    pair: tuple[int, str] = (1, "a")
    by_number: dict[int, str] = {}
    by_id: dict[UUID, Size] = {}
    inner: Inner = Inner()
    inners: list[Inner] = []

    @computed_field
    def total(self) -> int:
        return len(self.inners)


class Secrets(BaseModel):
    text: SecretStr = SecretStr("")
    data: SecretBytes = SecretBytes(b"")
    day: Secret[date] = Secret(date(2026, 1, 1))
    many: list[SecretStr] = []
    by_name: dict[str, SecretStr] = {}
    inner: Inner = Inner()
    anything: SecretStr | int = 0


@dataclasses.dataclass
class Plain:
    moment: datetime | None = None
    by_number: dict[int, set[str]] = dataclasses.field(default_factory=dict)
    data: bytes = b""
    kind: Kind = Kind.A
    inner: Inner = dataclasses.field(default_factory=Inner)


class Struct(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    moment_of: datetime | None = None
    by_number: dict[int, set[str]] = {}
    data: bytes = b""
    size: Size = Size.SMALL
    id: UUID = UUID(int=7)
    pair: tuple[int, str] = (1, "a")
    inner: list[Nested] = []


class Nested(msgspec.Struct, tag=True, omit_defaults=True):
    some: int = 0


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
utf8 = text.map(str.encode)
moments = st.datetimes(timezones=st.just(UTC))
small = st.integers(-9, 9)
inners = st.builds(Inner, someName=small, beginsAt=moments, password=text.map(SecretStr))
values: dict[type[Any], st.SearchStrategy[Any]] = {
    Aliased: st.builds(
        lambda plain, read, written, other, below: Aliased.model_validate(
            {"Plain": plain, "Read": read, "written": written, "Other": other, "above": {"below": below}}
        ),
        *[small] * 5,
    ),
    Strict: st.builds(
        Strict,
        moment=st.none() | moments,
        day=st.dates(),
        span=st.timedeltas(timedelta(days=-9), timedelta(days=9)),
        id=st.uuids(),
        price=st.decimals(allow_nan=False, allow_infinity=False),
        large=st.integers(),
        either=st.integers() | text | st.just("1"),
        data=utf8,
        kind=st.just(Kind.A),
        numbers=st.sets(small, max_size=3),
        frozen=st.frozensets(text, max_size=3),
        pair=st.tuples(small, text),
        by_number=st.dictionaries(small, text, max_size=3),
        by_id=st.dictionaries(st.uuids(), st.just(Size.SMALL), max_size=2),
        inner=inners,
        inners=st.lists(inners, max_size=2),
    ),
    Secrets: st.builds(
        Secrets,
        text=text.map(SecretStr),
        data=utf8.map(SecretBytes),
        day=st.dates().map(Secret),
        many=st.lists(text.map(SecretStr), max_size=3),
        by_name=st.dictionaries(text, text.map(SecretStr), max_size=3),
        inner=inners,
        anything=small | text.map(SecretStr),
    ),
    Plain: st.builds(
        Plain,
        moment=st.none() | moments,
        by_number=st.dictionaries(small, st.sets(text, max_size=2), max_size=3),
        data=utf8,
        inner=inners,
    ),
    Struct: st.builds(
        Struct,
        moment_of=st.none() | moments,
        by_number=st.dictionaries(small, st.sets(text, max_size=2), max_size=3),
        data=st.binary(max_size=5),
        id=st.uuids(),
        pair=st.tuples(small, text),
        inner=st.lists(st.builds(Nested, small), max_size=2),
    ),
}


@pytest.mark.parametrize("model", values, ids=lambda model: model.__name__)
@settings(deadline=None)
@given(data=st.data())
def test_every_value_comes_back(model: type[Any], data: st.DataObject) -> None:
    value = data.draw(values[model])
    codec, serializer = SessionModel(model)._codec, JSONSerializer()
    stored = serializer.loads(serializer.dumps({"model": codec.dump(value)}))["model"]
    found = codec.load(stored)
    assert found == value
    assert type(found) is model


@asynccontextmanager
async def client_of(model: type[Any], value: Any, found: list[Any]) -> AsyncIterator[AsyncClient]:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, storage=SessionStorageMemory())
    dependency = Depends(SessionModel(model))

    @app.get("/put")
    async def put(part: Any = dependency) -> Response:
        for name, field in _fields(value).items():
            setattr(part, name, field)
        return Response()

    @app.get("/look")
    async def look(part: Any = dependency) -> Response:
        found.append(part)
        return Response()

    async with AsyncClient(transport=ASGITransport(app), base_url="https://service.test") as client:
        yield client


def _fields(value: Any) -> dict[str, Any]:
    if isinstance(value, BaseModel):
        return dict(value)
    if dataclasses.is_dataclass(value):
        return vars(value)
    return {name: getattr(value, name) for name in value.__struct_fields__}


@pytest.mark.parametrize(
    "value",
    [
        Aliased.model_validate({"Plain": 1, "Read": 2, "written": 3}),
        Strict(
            numbers={1, 2},
            by_number={1: "a"},
            inners=[Inner.model_validate({"someName": 5, "password": SecretStr("hush")})],
        ),
        Secrets(text=SecretStr("hush"), many=[SecretStr("a"), SecretStr("b")]),
        Plain(by_number={1: {"a"}}, kind=Kind.A, data=b"abc"),
        Struct(by_number={1: {"a"}}, data=b"\xff", inner=[Nested(5)]),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_model_comes_back_equal_in_the_next_request(value: Any) -> None:
    found: list[Any] = []
    async with client_of(type(value), value, found) as client:
        for path in ("/put", "/look"):
            assert (await client.get(path)).is_success
    assert found == [value]


class Based(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    data: bytes = b"\xff"


def test_bytes_that_are_not_utf8() -> None:
    codec = SessionModel(Based)._codec
    assert codec.load(codec.dump(Based(data=b"\xfe"))) == Based(data=b"\xfe")
    with pytest.raises(InvalidSessionData, match="no JSON for this Strict") as caught:
        SessionModel(Strict)._codec.dump(Strict(data=b"\xff"))
    assert caught.value.__context__ is None
