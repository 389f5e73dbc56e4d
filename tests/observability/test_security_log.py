"""The security log tells of sessions by salted hashes alone."""

from __future__ import annotations

import hmac
import logging
from hashlib import sha256
from typing import Any

import pytest

from sqlsessions import SessionNotFound
from sqlsessions.testing import ManualClock

from .conftest import Create

SALT = b"a salt of sixteen bytes or more"
LOGGER = "sqlsessions.security"


def hashed(id: str, salt: bytes = SALT) -> str:
    return hmac.digest(salt, sha256(id.encode()).digest(), "sha256").hex()[:16]


ANN = hmac.digest(SALT, b"subject\0ann@example.org", "sha256").hex()[:16]


async def test_what_happens_is_logged(create: Create, clock: ManualClock, caplog: Any) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with create(log_salt=SALT) as storage:
        await storage.write_bytes("id", b"secret", subject="ann@example.org")
        await storage.write_bytes("id", b"again")
        await storage.rotate("id", "new")
        assert await storage.load("id") is None
        with pytest.raises(SessionNotFound):
            await storage.read_bytes("id")
        with pytest.raises(SessionNotFound):
            await storage.rotate("id", "other")
        assert await storage.info("id") is await storage.touch("id") is None
        assert await storage.revoke("ann@example.org") == 1
        await storage.write_bytes("last", b"1")
        await storage.invalidate("last")
        await storage.invalidate("last")
    assert {(record.name, record.levelno) for record in caplog.records} == {(LOGGER, logging.INFO)}
    messages = [record.getMessage() for record in caplog.records]
    assert messages == [
        f"session created: session={hashed('id')} subject={ANN}",
        f"session rotated: session={hashed('new')} previous={hashed('id')} subject={ANN}",
        *[f"unknown session id presented: session={hashed('id')}"] * 5,
        f"sessions revoked: subject={ANN} count=1",
        f"session invalidated: session={hashed('new')}",
        f"session created: session={hashed('last')}",
        f"session invalidated: session={hashed('last')}",
    ]
    rotated = vars(caplog.records[1])
    assert rotated["session_event"] == "rotated"
    assert (rotated["session_hash"], rotated["previous_hash"]) == (hashed("new"), hashed("id"))
    assert rotated["subject_hash"] == ANN
    assert vars(caplog.records[7])["session_count"] == 1
    everything = "\n".join(str(vars(record)) for record in caplog.records)
    for secret in (
        "secret",
        "ann@",
        "example.org",
        sha256(b"id").hexdigest(),
        sha256(b"id").hexdigest()[:16],
    ):
        assert secret not in everything


async def test_a_moved_id_is_logged_with_the_new_one(create: Create, caplog: Any) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with create(log_salt=SALT) as storage:
        await storage.write_bytes("id", b"1")
        await storage.rotate("id", "new")
        await storage.rotate("new", "newest")
        caplog.clear()
        for id in ("id", "newest", "never"):
            await storage.successor(id)
    (moved,) = caplog.records
    expected = f"moved session id presented: session={hashed('newest')} previous={hashed('id')}"
    assert moved.getMessage() == expected
    assert vars(moved)["session_event"] == "moved"


async def test_without_a_salt_each_storage_has_its_own(create: Create, caplog: Any) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    for _ in range(2):
        async with create() as storage:
            assert await storage.info("id") is None
    first, second = (vars(record)["session_hash"] for record in caplog.records)
    assert first != second


async def test_nothing_is_logged_unless_asked_for(create: Create, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    async with create() as storage:
        await storage.write_bytes("id", b"1", subject="ann")
        await storage.info("unknown")
        await storage.revoke("ann")
        assert not storage._events.wants_expired
    assert not caplog.records
    caplog.set_level(logging.INFO, LOGGER)
    assert storage._events.wants_expired


async def test_many_unknown_ids_are_sampled(create: Create, caplog: Any) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with create(log_salt=SALT) as storage:
        now = 0.0
        storage._events._unknown.clock = lambda: now
        for number in range(350):
            await storage.load(f"id {number}")
        assert len(caplog.records) == 100
        now = 60.0
        await storage.load("a")
        await storage.load("b")
    *_, first, second = caplog.records
    assert first.getMessage() == f"unknown session id presented: session={hashed('a')} left_out=250"
    assert first.left_out == 250
    assert second.getMessage() == f"unknown session id presented: session={hashed('b')}"
