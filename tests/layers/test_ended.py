"""Records of sessions that have ended, through layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sqlsessions import (
    DelegatingStorage,
    EncryptedStorage,
    MigratingStorage,
    SessionStorageMemory,
    SqlSessionStorage,
    UnsupportedOperation,
)
from sqlsessions.integrations.opentelemetry import instrument
from sqlsessions.testing import ManualClock
from sqlsessions.testing._ended import CLIENT, ended

from ..cache.support import Plain
from ..sql.support import INLINE, each_database, query, sqlite

KEPT = 30 * 86_400
OLD, NEW = b"o" * 32, b"n" * 32


@each_database
async def test_subjects_and_clients_of_records_are_encrypted(sql_url: str) -> None:
    clock = ManualClock()
    async with SqlSessionStorage(sql_url, clock=clock, keep_ended=KEPT) as sql:
        plain = EncryptedStorage(sql, [OLD])
        old = EncryptedStorage(sql, [OLD], encrypt_subjects=True)
        new = EncryptedStorage(sql, [NEW, OLD], encrypt_subjects=True)
        for number, storage in enumerate((plain, old, new)):
            clock.advance(1)
            await storage.write_bytes(f"{number}", INLINE, subject="ann", client=CLIENT)
            await storage.invalidate(f"{number}")
        await old.write_bytes("bob's", INLINE, subject="bob")
        await old.invalidate("bob's")
        assert str(await query(sql_url, "SELECT subject, client FROM session_ends")).count("e1.") == 2 * 3 + 1
        for subject in ("ann", None):
            found = [each for each in await ended(new, subject) if each.subject == "ann"]
            assert [each.client for each in found] == [CLIENT] * 3
            assert found == sorted(found, key=lambda each: each.ended_at, reverse=True)
        await plain.write_bytes("long", INLINE, subject="l" * 255)
        await plain.invalidate("long")
        await new.rekey()
        last = await ended(new, since=found[0].ended_at)
        assert {each.subject for each in last} == {"ann", "bob", "l" * 255}
        assert await plain.forget_ended("l" * 255) == 1
        only = EncryptedStorage(sql, [NEW], encrypt_subjects=True)
        assert await ended(only, "ann") == found
        assert await query(sql_url, "SELECT count(*) FROM session_ends") == [(4,)]
        assert await new.rename_ended(str.title) == 4
        assert await only.forget_ended("Ann") == 3
        assert [each.subject for each in await ended(only)] == ["Bob"]


async def test_in_memory_names_change_too() -> None:
    async with SessionStorageMemory(keep_ended=KEPT) as storage:
        for id, subject in (("id", "ann"), ("other", "Bob"), ("nobody's", None)):
            await storage.write_bytes(id, INLINE, subject=subject)
            await storage.invalidate(id)
        assert await storage.rename_ended(str.title) == 1
        assert {each.subject for each in await ended(storage)} == {"Ann", "Bob", None}


@sqlite
async def test_layers_pass_records_on(sql_url: str) -> None:
    async with (
        SqlSessionStorage(sql_url, keep_ended=KEPT) as sql,
        MigratingStorage(sql, SessionStorageMemory()) as migrating,
    ):
        storage = instrument(migrating)
        await storage.write_bytes("id", INLINE, subject="ann")
        await storage.invalidate("id")
        found = await ended(sql)
        assert await ended(storage) == await ended(migrating, "ann") == found
        assert await migrating.rename_ended(str) == 0
        assert await migrating.forget_ended("ann") == 1


async def test_a_plain_storage_keeps_none() -> None:
    storage = DelegatingStorage(Plain())
    calls: list[Callable[[], Any]] = [
        lambda: ended(storage),
        lambda: storage.forget_ended("ann"),
        lambda: storage.rename_ended(str),
    ]
    for call in calls:
        with pytest.raises(
            UnsupportedOperation, match=r"^Plain does not offer (ended|forget_ended|rename_ended)$"
        ):
            await call()
