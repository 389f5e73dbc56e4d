"""Databases of PostgreSQL whose encoding is not UTF-8: subjects come back as they were, or are refused in a sentence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import InvalidArgument, SqlSessionStorage, StorageUnavailable, schema

from ..databases import PostgreSQLServer, available
from .support import LARGE, TINY

WESTERN, OTHER = "zo\xeb", "\u0142\U0001f600"


@pytest.fixture(params=["SQL_ASCII", "LATIN1"])
def encoded(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """An encoding, and the URL of a database that has it."""
    server = available("postgresql")
    assert isinstance(server, PostgreSQLServer)
    url = server.create(f"ENCODING '{request.param}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    yield request.param, url.render_as_string(hide_password=False)
    server.drop(url)


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "postgresql+psycopg"])
async def test_subjects_are_kept_or_refused(driver: str, encoded: tuple[str, str]) -> None:
    encoding, plain = encoded
    url = plain.replace("postgresql", driver, 1)
    await schema.upgrade(url)
    await schema.check(url)
    async with SqlSessionStorage(url, **TINY) as storage:
        for subject in (WESTERN, OTHER):
            for data in (b"small", LARGE):
                if encoding == "LATIN1" and subject == OTHER:
                    with pytest.raises(
                        StorageUnavailable, match="encoding of the database lacks a character"
                    ):
                        await storage.write_bytes("id", data, subject=subject)
                    continue
                await storage.write_bytes("id", data, subject=subject)
                assert await storage.read_bytes("id") == data
                assert [info.subject async for info in storage.sessions(subject)] == [subject]
                assert await storage.revoke(subject) == 1


@pytest.mark.parametrize("driver", ["postgresql+psycopg"])
async def test_an_engine_that_speaks_another_encoding_is_refused(
    driver: str, encoded: tuple[str, str]
) -> None:
    encoding, plain = encoded
    url = plain.replace("postgresql", driver, 1)
    await schema.upgrade(url)
    engine = create_async_engine(url)
    async with SqlSessionStorage(engine) as storage:
        with pytest.raises((InvalidArgument, StorageUnavailable), match="client_encoding='utf8'"):
            await storage.write_bytes("id", b"data")
    if encoding == "SQL_ASCII":  # on which SQLAlchemy itself fails
        with pytest.raises(StorageUnavailable, match="client_encoding='utf8'"):
            await schema.check(engine)
    await engine.dispose()
    engine = create_async_engine(url, client_encoding="utf8")
    await schema.check(engine)
    async with SqlSessionStorage(engine) as storage:
        info = await storage.write_bytes("id", b"data", subject=WESTERN)
        assert info.subject == WESTERN
    await engine.dispose()
