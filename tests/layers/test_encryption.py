"""`EncryptedStorage`: sessions bound to their ids, rings of keys, subjects, and nothing in the clear."""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import Any

import pytest

from sqlsessions import (
    DelegatingStorage,
    EncryptedStorage,
    InvalidArgument,
    Rekeyed,
    SessionConflict,
    SessionCorrupt,
    SessionStorageMemory,
    SqlSessionStorage,
    UnsupportedOperation,
    new_session_id,
    schema,
)
from sqlsessions.info import Rebinding
from sqlsessions.layers.ciphertext import HEADER, LARGE, SMALL
from sqlsessions.records import digest
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import blob, provider_of, state, whole

from ..cache.support import Plain
from ..sql.support import TINY, each_database, query, sqlite

OLD, NEW, OTHER = (secrets.token_bytes(32) for _ in range(3))
both_sizes = pytest.mark.parametrize("data", [b"secret data", blob(300_000)], ids=["small", "large"])


@pytest.fixture
def memory(clock: ManualClock) -> SessionStorageMemory:
    return SessionStorageMemory(clock=clock)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@both_sizes
@each_database
async def test_blobs_that_are_swapped_in_the_database_are_refused(sql_url: str, data: bytes) -> None:
    async with SqlSessionStorage(sql_url) as sql, EncryptedStorage(sql, [NEW]) as storage:
        await storage.write_bytes("mine", data)
        await storage.write_bytes("admin", data[::-1])
        third = digest("third")
        for table in ("sessions", "session_chunks"):
            for to, of in (
                (third, digest("mine")),
                (digest("mine"), digest("admin")),
                (digest("admin"), third),
            ):
                await query(sql_url, f"UPDATE {table} SET id = :to WHERE id = :of", to=to, of=of)
        for id in ("mine", "admin"):
            with pytest.raises(SessionCorrupt, match="belongs to another session"):
                await storage.load(id)
            with pytest.raises(SessionCorrupt):
                await storage.read(id, whole)


@both_sizes
@each_database
async def test_a_rotated_session_is_bound_to_its_new_id_alone(sql_url: str, data: bytes) -> None:
    async with SqlSessionStorage(sql_url) as sql, EncryptedStorage(sql, [NEW]) as storage:
        written = await storage.write_bytes("id", data, subject="ann")
        moved = await storage.rotate("id", "new")
        assert (moved.version, moved.size, moved.subject) == (written.version, len(data), "ann")
        assert await state(storage, "new") == (data, moved)
        assert await storage.load_key(moved.key) == await storage.load("new")
        assert await storage.read("new", whole) == data
        for table in ("sessions", "session_chunks"):
            await query(
                sql_url,
                f"UPDATE {table} SET id = :to WHERE id = :of AND version = :version",
                to=digest("another"), of=digest("new"), version=moved.version,
            )  # fmt: skip
        with pytest.raises(SessionCorrupt):
            await storage.load("another")


async def test_a_row_that_is_planted_is_refused(memory: SessionStorageMemory) -> None:
    storage = EncryptedStorage(memory, [NEW])
    for planted in (b"", b'{"user": "admin"}', SMALL + bytes(100), LARGE + bytes(100)):
        await memory.write_bytes("planted", planted, subject="admin")
        for read in (storage.load("planted"), storage.read_bytes("planted"), storage.read("planted", whole)):
            with pytest.raises(SessionCorrupt):
                await read


@both_sizes
async def test_nothing_is_stored_in_the_clear(memory: SessionStorageMemory, data: bytes) -> None:
    storage = EncryptedStorage(memory, [NEW], encrypt_subjects=True)
    await storage.write("id", provider_of(data[:5], data[5:]), subject="ann@example.com")
    stored = await memory.load("id")
    assert stored is not None
    assert stored.info.subject is not None
    assert data[:11] not in stored.data
    assert "ann" not in stored.info.subject
    assert "ann@example.com" not in repr(memory._sessions)


@both_sizes
async def test_a_write_by_key_is_bound_to_the_key(memory: SessionStorageMemory, data: bytes) -> None:
    storage = EncryptedStorage(memory, [NEW])
    info = await storage.write_bytes("id", b"before")
    written = await storage.write_key(info.key, data, if_match=info.version)
    assert await state(storage, "id") == (data, written)
    with pytest.raises(SessionConflict):
        await storage.write_key("no key", data, if_match=1)


async def test_a_plain_storage_beneath(memory: SessionStorageMemory) -> None:
    plain = Plain()
    storage = EncryptedStorage(plain, [NEW])
    await storage.write("id", provider_of(b"da", b"ta"))
    assert await storage.read("id", whole) == await storage.read_bytes("id") == b"data"
    plain.kept["other"] = plain.kept["id"]
    with pytest.raises(SessionCorrupt):
        await storage.read_bytes("other")
    with pytest.raises(UnsupportedOperation):
        await storage.rotate("id", "new")


async def test_old_keys_decrypt_and_the_first_one_encrypts(memory: SessionStorageMemory) -> None:
    await EncryptedStorage(memory, [OLD]).write_bytes("id", b"data")
    both = EncryptedStorage(memory, [NEW, OLD])
    assert await both.read_bytes("id") == b"data"
    with pytest.raises(SessionCorrupt, match="under a key that is not among the keys"):
        await EncryptedStorage(memory, [NEW]).read_bytes("id")
    await both.write_bytes("id", b"again")
    assert await EncryptedStorage(memory, [NEW]).read_bytes("id") == b"again"
    await EncryptedStorage(memory, [OLD]).write_bytes("moved", b"data")
    await both.rotate("moved", "new")
    assert await EncryptedStorage(memory, [NEW]).read_bytes("new") == b"data"


@each_database
async def test_rekeying_leaves_nothing_under_the_old_key(sql_url: str, clock: ManualClock) -> None:
    async with SqlSessionStorage(sql_url, clock=clock, **TINY) as sql:
        old = EncryptedStorage(sql, [OLD], encrypt_subjects=True)
        large = blob(70_000)
        for number in range(150):
            await old.write_bytes(
                f"id {number}", large if number % 50 == 0 else b"data", subject="ann", ttl=1000
            )
        both = EncryptedStorage(sql, [NEW, OLD], encrypt_subjects=True)
        before = [await state(both, f"id {number}") for number in range(150)]
        clock.advance(10)
        seen: list[Rekeyed] = []

        def stop(done: Rekeyed) -> None:
            seen.append(done)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await both.rekey(progress=stop)
        assert 0 < seen[0].changed < 150
        assert await both.rekey() == Rekeyed(150, 150 - seen[0].changed)
        assert await both.rekey() == Rekeyed(150)
        new = EncryptedStorage(sql, [NEW], encrypt_subjects=True)
        assert [await state(new, f"id {number}") for number in range(150)] == before
        assert await new.revoke("ann") == 150


async def test_rekeying_counts_what_it_cannot_read_and_goes_on(memory: SessionStorageMemory) -> None:
    await EncryptedStorage(memory, [OLD]).write_bytes("old", b"data")
    await EncryptedStorage(memory, [OTHER]).write_bytes("other", b"data")
    await memory.write_bytes("plain", b"data")
    assert await EncryptedStorage(memory, [NEW, OLD]).rekey() == Rekeyed(3, 1, 2)
    assert await memory.read_bytes("plain") == b"data"


async def test_a_write_while_rekeying_wins(memory: SessionStorageMemory) -> None:
    class Writing(DelegatingStorage):
        async def rebind(self, key: str, rebinding: Rebinding) -> bool:
            await both.write_bytes("id", b"meanwhile")
            return await super().rebind(key, rebinding)

    await EncryptedStorage(memory, [OLD]).write_bytes("id", b"data")
    both = EncryptedStorage(Writing(memory), [NEW, OLD])
    assert await both.rekey() == Rekeyed(1)
    assert await EncryptedStorage(memory, [NEW]).read_bytes("id") == b"meanwhile"


class TestSubjects:
    @pytest.fixture
    async def encrypted(self, memory: SessionStorageMemory, clock: ManualClock) -> EncryptedStorage:
        """A ring of two keys over sessions under each, and one from before subjects were encrypted."""
        await EncryptedStorage(memory, [OLD]).write_bytes("plain", b"", subject="ann")
        clock.advance(1)
        await EncryptedStorage(memory, [OLD], encrypt_subjects=True).write_bytes("old", b"", subject="ann")
        clock.advance(1)
        storage = EncryptedStorage(memory, [NEW, OLD], encrypt_subjects=True)
        await storage.write_bytes("new", b"", subject="ann")
        await storage.write_bytes("bob", b"", subject="bob")
        return storage

    async def test_all_are_found_the_newest_first(self, encrypted: EncryptedStorage) -> None:
        found = [info async for info in encrypted.sessions("ann")]
        assert [info.key for info in found] == [digest(id).hex() for id in ("new", "old", "plain")]
        assert {info.subject for info in found} == {"ann"}
        assert {info.subject async for info in encrypted.sessions()} == {"ann", "bob"}

    async def test_all_are_revoked(self, encrypted: EncryptedStorage) -> None:
        assert await encrypted.revoke("ann", keep="old") == 2
        assert [info.key async for info in encrypted.sessions("ann")] == [digest("old").hex()]
        assert await encrypted.revoke("ann") == 1

    async def test_a_rotation_puts_the_subject_under_the_first_key(
        self, encrypted: EncryptedStorage, memory: SessionStorageMemory
    ) -> None:
        for id in ("old", "plain"):
            assert (await encrypted.rotate(id, f"{id} moved")).subject == "ann"
        alone = EncryptedStorage(memory, [NEW], encrypt_subjects=True)
        assert await alone.revoke("ann") == 3

    async def test_one_that_is_too_long_is_refused(self, encrypted: EncryptedStorage) -> None:
        await encrypted.write_bytes("id", b"", subject="é" * 80)
        with pytest.raises(
            InvalidArgument, match="at most 160 bytes of UTF-8 with encrypt_subjects, not 161"
        ):
            await encrypted.write_bytes("id", b"", subject="x" * 161)

    @pytest.mark.parametrize("kept", ["e1.", "e1.AAAA", "e1.!", "e1.é", "e1." + "A" * 60])
    async def test_one_that_only_looks_encrypted_is_shown_as_it_is(
        self, encrypted: EncryptedStorage, memory: SessionStorageMemory, kept: str
    ) -> None:
        await memory.write_bytes("odd", b"", subject=kept)
        info = await encrypted.info("odd")
        assert info is not None
        assert info.subject == kept


def test_encrypting_twice_is_refused(memory: SessionStorageMemory) -> None:
    with pytest.raises(InvalidArgument, match="encrypts already"):
        EncryptedStorage(DelegatingStorage(EncryptedStorage(memory, [OLD])), [NEW])


async def test_no_layer_beneath_the_data_is_rebound_through_it(memory: SessionStorageMemory) -> None:
    storage = EncryptedStorage(memory, [NEW])
    info = await storage.write_bytes("id", b"data")
    with pytest.raises(UnsupportedOperation):
        await storage.rotate_with("id", "new", Rebinding(1, bytes.upper))
    with pytest.raises(UnsupportedOperation):
        await storage.rebind(info.key, Rebinding(1, bytes.upper))


@sqlite
async def test_small_reads_and_writes_are_one_statement_each(sql_url: str) -> None:
    from ..sql.support import statements

    async with SqlSessionStorage(sql_url) as sql, EncryptedStorage(sql, [NEW]) as storage:
        await storage.write_bytes("id", b"data")
        async with statements(sql) as seen:
            await storage.write_bytes("id", b"more")
            await storage.load("id")
            await storage.read_bytes("id")
        assert len(seen) == 3


def shown(value: Any) -> str:
    return f"{value!r} {value!s} {vars(value) if hasattr(value, '__dict__') else ''}"


async def test_keys_are_in_no_repr_and_no_error(memory: SessionStorageMemory) -> None:
    storage = EncryptedStorage(memory, [NEW])
    await memory.write_bytes("id", b"x" * 200)
    with pytest.raises(SessionCorrupt) as caught:
        await storage.read_bytes("id")
    assert caught.value.__context__ is None or b"x" * 9 not in repr(caught.value.__context__).encode()
    texts = shown(storage) + shown(storage._ring) + shown(next(iter(storage._ring._keys.values())))
    texts += str(caught.value)
    for form in (repr(NEW), NEW.hex(), base64.b64encode(NEW).decode(), repr(NEW)[2:-1]):
        assert form not in texts


def test_the_header_has_the_size_that_is_documented() -> None:
    assert (HEADER, HEADER + 16) == (60, 76)


async def test_a_dump_of_a_database_with_keys_has_nothing_in_the_clear(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'sessions.db'}"
    await schema.upgrade(url)
    id, subject, data = new_session_id(), "ann@example.com", b"a secret of ann's"
    for size in (1, 20_000):
        async with EncryptedStorage(SqlSessionStorage(url), [NEW], encrypt_subjects=True) as storage:
            await storage.write_bytes(id, data * size, subject=subject)
            await storage.rotate(id, f"{id}{size}")
            dump = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert len(dump) > 20_000
    for text in (id.encode(), subject.encode(), data, NEW):
        assert text not in dump
