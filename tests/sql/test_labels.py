"""The index of labels: what leaves it, whose it is, and what it costs."""

from __future__ import annotations

from functools import partial

from sqlsessions import EncryptedStorage, SessionInfo, SqlSessionStorage
from sqlsessions.sql.statements import labels
from sqlsessions.storage import ManagedSessionStorage
from sqlsessions.testing import ManualClock

from .support import INLINE, LARGE, TINY, each_database, query

OLD, NEW = b"o" * 32, b"n" * 32


async def labelled(storage: ManagedSessionStorage, label: str) -> list[SessionInfo]:
    return [info async for info in storage.sessions(label=label)]


async def entries(url: str) -> int:
    [(count,)] = await query(url, "SELECT count(*) FROM session_labels")
    return int(count)


@each_database
async def test_the_purge_deletes_what_sessions_have_left(sql_url: str, clock: ManualClock) -> None:
    async with SqlSessionStorage(sql_url, clock=clock, **TINY) as storage:
        for id, data in (("ended", INLINE), ("expired", LARGE), ("replaced", INLINE), ("live", LARGE)):
            await storage.write_bytes(id, data, labels=["a", id], ttl=None if id == "live" else 10)
        await storage.invalidate("ended")
        clock.advance(10)
        await storage.write_bytes("replaced", INLINE)
        await storage.rotate("live", "moved")
        assert await entries(sql_url) == 8
        await storage.purge()
        assert await entries(sql_url) == 2
        info = await storage.info("moved")
        assert await labelled(storage, "a") == await labelled(storage, "live") == [info]
        await storage.write_bytes("moved", INLINE, labels=["a"])
        assert await entries(sql_url) == 1


@each_database
async def test_many_entries_are_purged(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url) as storage:
        for number in range(120):
            await storage.write_bytes(f"{number}", INLINE, labels=["a", "b"])
        assert await storage.revoke_label("b") == 120
        await storage.purge()
        assert await entries(sql_url) == 0


@each_database
async def test_an_entry_that_was_written_again_is_not_forgotten(sql_url: str, clock: ManualClock) -> None:
    async with SqlSessionStorage(sql_url, clock=clock) as storage:
        await storage.write_bytes("id", INLINE, labels=["a"], ttl=10)
        await storage.invalidate("id")
        found = await storage._database.run(partial(labels.outdated, limit=10))
        assert len(found) == 1
        info = await storage.write_bytes("id", INLINE, labels=["a"])
        await storage._database.run(partial(labels.forget, keys=found))
        assert await labelled(storage, "a") == [info]


@each_database
async def test_labels_of_another_namespace_are_left_alone(sql_url: str) -> None:
    async with (
        SqlSessionStorage(sql_url) as plain,
        SqlSessionStorage(sql_url, namespace="one") as one,
        SqlSessionStorage(sql_url, namespace="two") as two,
    ):
        for storage in (plain, one, two):
            await storage.write_bytes("id", INLINE, labels=["a"])
        assert [len(await labelled(storage, "a")) for storage in (plain, one, two)] == [1, 1, 1]
        assert await one.revoke_label("a") == 1
        assert [len(await labelled(storage, "a")) for storage in (plain, one, two)] == [1, 0, 1]


@each_database
async def test_labels_and_clients_are_encrypted_as_subjects_are(sql_url: str) -> None:
    client = {"address": "192.0.2.7", "user_agent": "\u00e9\ud800"}
    async with SqlSessionStorage(sql_url) as sql:
        plain = EncryptedStorage(sql, [OLD])
        old = EncryptedStorage(sql, [OLD], encrypt_subjects=True)
        new = EncryptedStorage(sql, [NEW, OLD], encrypt_subjects=True)
        await plain.write_bytes("1", INLINE, labels=["tenant:7"], client=client)
        await old.write_bytes("2", INLINE, labels=["tenant:7", "sid:2"], client=client)
        await new.write_bytes("3", INLINE, labels=["tenant:7"], client=client)
        stored = str(
            await query(sql_url, "SELECT labels, client FROM sessions WHERE labels NOT LIKE '%tenant:7%'")
        )
        assert stored.count("e1.") == 2 * 3 + 1
        assert "192.0.2.7" not in stored
        found = await labelled(new, "tenant:7")
        assert [info.key for info in found] == sorted(info.key for info in found)
        assert len(found) == 3
        assert all(info.client == client for info in found)
        assert {info.labels for info in found} == {("tenant:7",), ("sid:2", "tenant:7")}
        await new.rotate("2", "moved")
        assert (await new.rekey()).unreadable == 0
        only = EncryptedStorage(sql, [NEW], encrypt_subjects=True)
        assert len(await labelled(only, "tenant:7")) == 3
        assert await only.revoke_label("sid:2") == 1
        assert await only.revoke_label("tenant:7") == 2
