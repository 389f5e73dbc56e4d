"""Arguments that cannot be are refused at once and by name; so is data that is too large."""

from __future__ import annotations

import asyncio
import pickle
import re
import traceback
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import make_url
from sqlalchemy.pool import NullPool, Pool, QueuePool, StaticPool

from sqlsessions import (
    ByteWriteChannel,
    InvalidArgument,
    InvalidArgumentType,
    SessionStorageMemory,
    SessionTooLarge,
    SqlSessionStorage,
    StorageUnavailable,
)
from sqlsessions.sql.engine import urls

from .support import TINY, chunk_rows, each_database, quiet

bad_values = pytest.mark.parametrize("value", [0, -1, "many", b"1", [], float("nan"), float("inf")], ids=str)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("oracle://me:hunter2@host/name", "unknown scheme 'oracle'.*postgresql.*sqlite.*mysql"),
        ("me:hunter2@host", "url cannot be parsed"),
        ("postgresql://me:hunter2@host:port/name", "url cannot be parsed"),
        ("postgresql+psycopg2://me:hunter2@host/name", r"'psycopg2'.*postgresql\+asyncpg"),
        ("sqlite://sessions.db", "three slashes"),
        ("sqlite+aiosqlite://sessions.db", "three slashes"),
        ("sqlite+pysqlite:///file.db", r"'pysqlite'.*sqlite\+aiosqlite"),
        ("mysql+pymysql://me:hunter2@host/name", r"'pymysql'.*mysql\+asyncmy"),
        (make_url("oracle://me:hunter2@host/name"), "unknown scheme 'oracle'"),
        ("", "url cannot be parsed"),
        (5, "url must be a str, a URL or an AsyncEngine, not int"),
        (None, "url must be a str, a URL or an AsyncEngine, not NoneType"),
    ],
)
def test_an_unusable_url_is_refused(url: Any, says: str) -> None:
    with pytest.raises((ValueError, TypeError), match=says) as caught:
        SqlSessionStorage(url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("url", "extra"),
    [
        ("postgresql://me:hunter2@host/name", "postgresql"),
        ("postgresql+psycopg://me:hunter2@host/name", "psycopg"),
        ("mysql://me:hunter2@host/name", "mysql"),
        ("mariadb+asyncmy://me:hunter2@host/name", "mysql"),
        ("mysql+aiomysql://me:hunter2@host/name", "aiomysql"),
    ],
)
def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch, url: str, extra: str) -> None:
    monkeypatch.setattr(urls, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=rf"pip install 'sqlsessions\[{extra}\]'") as caught:
        SqlSessionStorage(url)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "name",
    [
        "inline_limit",
        "chunk_size",
        "max_size",
        "pool_size",
        "pool_timeout",
        "connect_timeout",
        "busy_timeout",
        "ttl",
        "max_age",
        "synchronous",
    ],
)
@bad_values
def test_a_bad_argument_is_named(name: str, value: Any) -> None:
    with pytest.raises((InvalidArgument, InvalidArgumentType), match=f"^{name} must"):
        SqlSessionStorage("sqlite://", **{name: value})


def test_nothing_is_tried_for_longer_than_its_outcome_is_known() -> None:
    with pytest.raises(InvalidArgument, match="retry_for must be at most 30 seconds"):
        SqlSessionStorage("sqlite://", retry_for=31)


@pytest.mark.parametrize("name", ["ttl", "max_age", "max_bytes"])
@bad_values
def test_a_bad_argument_of_the_storage_in_memory_is_named(name: str, value: Any) -> None:
    with pytest.raises((InvalidArgument, InvalidArgumentType), match=f"^{name} must"):
        SessionStorageMemory(**{name: value})


@pytest.mark.parametrize(
    "storage", [SessionStorageMemory, lambda **options: SqlSessionStorage("sqlite://", **options)]
)
@pytest.mark.parametrize("name", ["ttl", "max_age"])
@pytest.mark.parametrize(
    ("value", "error"),
    [
        (timedelta(0), InvalidArgument),
        (timedelta(days=-1), InvalidArgument),
        (1e-7, InvalidArgument),
        (1e11, InvalidArgument),
        (timedelta.max, InvalidArgument),
        (True, InvalidArgumentType),
    ],
    ids=str,
)
def test_a_bad_lifetime_is_named(storage: Any, name: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"^{name} must"):
        storage(**{name: value})


@pytest.mark.parametrize("name", ["inline_limit", "chunk_size", "pool_size", "pool_timeout"])
def test_what_cannot_be_none_is_named(name: str) -> None:
    with pytest.raises(InvalidArgumentType, match=f"^{name} must"):
        SqlSessionStorage("sqlite://", **{name: None})  # type: ignore[arg-type]


def test_chunks_smaller_than_rows_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="chunk_size must be at least inline_limit"):
        SqlSessionStorage("sqlite://", inline_limit=101, chunk_size=100)


@pytest_asyncio.fixture
async def limited(sql_url: str) -> AsyncIterator[SqlSessionStorage]:
    async with SqlSessionStorage(sql_url, max_size=450, **TINY) as storage:
        yield storage


@each_database
async def test_what_is_too_large_is_refused_as_soon_as_it_is(
    limited: SqlSessionStorage, sql_url: str
) -> None:
    await limited.write_bytes("id", b"old")
    written = 0

    async def provider(channel: ByteWriteChannel) -> None:
        nonlocal written
        while True:
            await channel.write(b"x" * 100)
            written += 100

    for call in (limited.write("id", provider), limited.write_bytes("id", b"x" * 500)):
        with pytest.raises(SessionTooLarge) as caught:
            await call
        assert (caught.value.limit, caught.value.size) == (450, 500)
    assert written == 400
    await quiet(limited)
    assert await limited.read_bytes("id") == b"old"
    assert await chunk_rows(sql_url) == []
    await limited.write_bytes("id", b"x" * 450)
    assert await limited.read_bytes("id") == b"x" * 450


@each_database
async def test_what_is_too_large_for_a_row_is_refused_too(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url, max_size=50, **TINY) as storage:
        await storage.write_bytes("id", b"x" * 50)
        for data in (b"y" * 51, bytearray(51), memoryview(bytes(51))):
            with pytest.raises(SessionTooLarge) as caught:
                await storage.write_bytes("id", data)
            assert (caught.value.limit, caught.value.size) == (50, 51)
        assert await storage.read_bytes("id") == b"x" * 50


async def test_too_large_for_the_storage_in_memory() -> None:
    storage = SessionStorageMemory(max_bytes=10)
    await storage.write_bytes("id", b"x" * 10)
    with pytest.raises(SessionTooLarge) as caught:
        await storage.write_bytes("id", b"y" * 11)
    assert (caught.value.limit, caught.value.size) == (10, 11)
    assert await storage.read_bytes("id") == b"x" * 10


def test_the_error_crosses_processes() -> None:
    error = pickle.loads(pickle.dumps(SessionTooLarge(450, 500)))  # noqa: S301 (our own)
    assert isinstance(error, SessionTooLarge)
    assert (error.limit, error.size) == (450, 500)
    assert str(error) == str(SessionTooLarge(450, 500))


@pytest.mark.parametrize("name", ["isolation_level", "pool_reset_on_return", "skip_autocommit_rollback"])
@pytest.mark.parametrize("url", ["sqlite:///sessions.db", "postgresql://host/name", "mysql://host/name"])
def test_options_that_take_transactions_out_of_our_hands_are_refused(url: str, name: str) -> None:
    for options in ({name: "READ COMMITTED"}, {"execution_options": {name: "READ COMMITTED"}}):
        with pytest.raises(InvalidArgument, match=rf"must not set '{name}'"):
            SqlSessionStorage(url, engine_options=options)


@pytest.mark.parametrize(
    "options",
    [
        {"pool_sise": 5},
        {"poolclass": QueuePool},
        {"poolclass": "NullPool"},
        {"poolclass": NullPool(lambda: None)},  # type: ignore[arg-type]
        {"connect_args": {"timeout": "soon"}},
        {"connect_args": {"connect_timeout": [5]}},
        {"connect_args": 5},
        {"connect_args": {"tiemout": 5}},
        {"execution_options": 5},
        {"pool_size": "5"},
        {"pool_size": 0},
        {"pool_size": True},
        {"max_overflow": "1"},
        {"pool_recycle": "300"},
        {"pool_timeout": None},
        {"pool_pre_ping": "yes"},
        [("pool_size", 5)],
    ],
    ids=lambda options: re.sub(" at 0x[0-9a-f]+", "", str(options)),
)
@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///sessions.db",
        "postgresql+asyncpg://host/name",
        "postgresql+psycopg://host/name",
        "mysql+asyncmy://host/name",
        "mysql+aiomysql://host/name",
    ],
)
def test_options_that_no_engine_takes_are_refused_at_once(url: str, options: Any) -> None:
    with pytest.raises((InvalidArgument, InvalidArgumentType), match="engine_options"):
        SqlSessionStorage(url, engine_options=options)


async def test_values_that_a_driver_cannot_take_are_named_at_the_first_use() -> None:
    options = {"connect_args": {"server_settings": 5}}
    storage = SqlSessionStorage("postgresql+asyncpg://127.0.0.1:1/name", retry_for=0, engine_options=options)
    with pytest.raises(InvalidArgument, match="cannot connect as url and engine_options say"):
        await storage.load("id")
    await storage.aclose()


@each_database
@pytest.mark.parametrize("pool", [NullPool, StaticPool])
async def test_pools_without_a_size(sql_url: str, pool: type[Pool]) -> None:
    async with SqlSessionStorage(sql_url, engine_options={"poolclass": pool}, **TINY) as storage:
        await asyncio.gather(*(storage.write_bytes(f"id {number}", b"data") for number in range(10)))
        assert len([info async for info in storage.sessions()]) == 10


@pytest.mark.parametrize(
    ("url", "ours", "given"),
    [
        ("sqlite:///sessions.db", {"timeout": 7.0}, {"cached_statements": 5}),
        ("postgresql+asyncpg://host/name", {"timeout": 3.0}, {"server_settings": {"jit": "off"}}),
        ("postgresql+psycopg://host/name", {"connect_timeout": 3}, {"application_name": "shop"}),
        ("mysql+asyncmy://host/name", {"charset": "utf8mb4"}, {"init_command": "SET @a = 1"}),
    ],
)
async def test_connect_args_are_added_to_ours(url: str, ours: dict[str, Any], given: dict[str, Any]) -> None:
    storage = SqlSessionStorage(
        url, busy_timeout=7, connect_timeout=3, retry_for=0, engine_options={"connect_args": given}
    )
    seen: dict[str, Any] = {}

    def connect(*_arguments: Any, **options: Any) -> Any:
        seen.update(options)
        raise ConnectionRefusedError

    storage.engine.sync_engine.dialect.connect = connect  # type: ignore[method-assign]
    with pytest.raises(StorageUnavailable):
        await storage.write_bytes("id", b"data")
    assert seen.items() >= (ours | given).items()
    await storage.aclose()
