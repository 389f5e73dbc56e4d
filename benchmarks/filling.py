"""Very many sessions at once, past the storage: a benchmark of growth needs them in minutes."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

BATCH = 1_000_000
HOUR = 3_600_000_000  # microseconds
TTL = 14 * 24 * HOUR
APART = 1000  # microseconds between the creation of one session and the next

POSTGRESQL = """
INSERT INTO sessions (id, version, data, size, created_at, updated_at, expires_at, ttl, expires_bucket, subject)
SELECT digest, (:now / 1000 << 21) + i, convert_to(rpad(i::text, 200, 'x'), 'UTF8'), 200,
       :now - i * :apart, :now, expires_at, :ttl, expires_at / :hour, nullif(:subject, '')
FROM (
    SELECT i, sha256(convert_to(:prefix || i, 'UTF8')) AS digest,
           :first + (random() * :span)::bigint AS expires_at
    FROM generate_series(CAST(:low AS bigint), CAST(:high AS bigint)) AS i
    ORDER BY digest
) AS new
"""
COLUMNS = "id, version, data, size, created_at, updated_at, expires_at, ttl, expires_bucket, subject"
SQLITE = f"INSERT INTO sessions ({COLUMNS}) VALUES (?, ?, ?, 200, ?, ?, ?, ?, ?, ?)"

MYSQL = f"INSERT INTO sessions ({COLUMNS}) VALUES (%s, %s, %s, 200, %s, %s, %s, %s, %s, %s)"
MYSQL_BATCH = 20_000

Rows = Callable[[int, int], Iterator[tuple[Any, ...]]]


def id_of(number: int, *, live: bool = True) -> str:
    """The id of a session that `fill` makes."""
    return f"{_prefix(live)}{number}"


async def fill(url: str, count: int, *, live: bool, subject: str | None = None) -> None:
    """Make sessions of 200 bytes, live for up to two weeks more or expired for as long.

    No two were created at the same time, since a subject's are listed in the order of that.
    """
    now = time.time_ns() // 1000
    first = now + HOUR if live else now - TTL
    span = TTL - 2 * HOUR
    rows = partial(_rows, live=live, now=now, first=first, span=span, subject=subject)
    if url.startswith("sqlite"):
        _fill_sqlite(str(make_url(url).database), count, rows)
        return
    if url.startswith("mysql"):
        await _fill_mysql(url, count, rows)
        return
    engine = create_async_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text("SET synchronous_commit = off"))
        await connection.execute(text("SET work_mem = '256MB'"))
        for low in range(0, count, BATCH):
            numbers = {"low": low, "high": min(low + BATCH, count) - 1, "prefix": _prefix(live)}
            times: dict[str, Any] = {"now": now, "first": first, "span": span, "ttl": TTL}
            times |= {"hour": HOUR, "apart": APART}
            times["subject"] = subject or ""
            await connection.execute(_literal(POSTGRESQL, numbers | times))
        await connection.execute(text("VACUUM ANALYZE sessions"))
        await connection.execute(text("CHECKPOINT"))


def _prefix(live: bool) -> str:
    return "benchmark-live-" if live else "benchmark-expired-"


def _literal(statement: str, values: dict[str, Any]) -> Any:
    """A statement with its values written in, so that nobody has to guess their types."""
    for name in sorted(values, key=len, reverse=True):
        value = values[name]
        statement = statement.replace(
            f":{name}", f"'{value}'" if isinstance(value, str) else f"{value}::bigint"
        )
    return text(statement.replace("::", r"\:\:"))


def _rows(
    low: int, high: int, *, live: bool, now: int, first: int, span: int, subject: str | None
) -> Iterator[tuple[Any, ...]]:
    digests = [(hashlib.sha256(id_of(i, live=live).encode()).digest(), i) for i in range(low, high)]
    for digest, i in sorted(digests):
        expires_at = first + int.from_bytes(digest[:6]) * span // 2**48
        data = str(i).ljust(200, "x").encode()
        yield (
            digest,
            (now // 1000 << 21) + i,
            data,
            now - i * APART,
            now,
            expires_at,
            TTL,
            expires_at // HOUR,
            subject,
        )


async def _fill_mysql(url: str, count: int, rows: Rows) -> None:
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.begin() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        cursor = await driver.cursor()
        for low in range(0, count, MYSQL_BATCH):
            await cursor.executemany(MYSQL, list(rows(low, min(low + MYSQL_BATCH, count))))
    await engine.dispose()


def _fill_sqlite(path: str, count: int, rows: Rows) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = OFF")
        for low in range(0, count, BATCH):
            connection.execute("BEGIN")
            connection.executemany(SQLITE, rows(low, min(low + BATCH, count)))
            connection.execute("COMMIT")
        connection.execute("ANALYZE")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
