"""A dump of a database with keys shows no id, no subject and no data."""

from __future__ import annotations

import asyncio
import base64
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from sqlsessions import (
    CompressedStorage,
    EncryptedStorage,
    ManagedSessionStorage,
    SqlSessionStorage,
    new_session_id,
)
from sqlsessions.records import digest
from sqlsessions.testing import ManualClock
from sqlsessions.testing._base import provider_of

from .support import TINY, each_database

KEY, OTHER = secrets.token_bytes(32), secrets.token_bytes(32)
SUBJECT, OTHER_SUBJECT = "ann-of-the-subjects@example.org", "bob-of-the-subjects@example.org"
MARKER = b"what-a-session-holds"


async def dumped(url: str) -> bytes:
    """All that is in a database, as its own tool writes it; of SQLite the bytes of its files."""
    made = make_url(url)
    if made.get_backend_name() == "sqlite":
        files = sorted(Path(str(made.database)).parent.iterdir())
        return b"".join([await asyncio.to_thread(file.read_bytes) for file in files if file.is_file()])
    command, environment = _tool(made)
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=os.environ | environment
    )
    output, errors = await process.communicate()
    if b"server version mismatch" in errors:
        pytest.skip("pg_dump is older than the server")
    assert process.returncode == 0, errors.decode()
    return output


def _tool(url: Any) -> tuple[list[str], dict[str, str]]:
    host, user, password = str(url.host or "127.0.0.1"), str(url.username), str(url.password or "")
    if url.get_backend_name() == "postgresql":
        port = str(url.port or 5432)
        return ["pg_dump", "-h", host, "-p", port, "-U", user, "-w", str(url.database)], {
            "PGPASSWORD": password
        }
    tool = "mariadb-dump" if shutil.which("mariadb-dump") else "mysqldump"
    port = str(url.port or 3306)
    return [tool, "-h", host, "-P", port, "-u", user, "--hex-blob", str(url.database)], {
        "MYSQL_PWD": password
    }


async def use(storage: ManagedSessionStorage, clock: ManualClock) -> list[str]:
    """All that leaves traces: small and large sessions, new ids, ends; gives the ids."""
    ids = [new_session_id() for _ in range(10)]
    for id in ids[:4]:
        await storage.write_bytes(id, MARKER, subject=SUBJECT)
        await storage.write(id, provider_of(MARKER * 20))
    await storage.write(ids[4], provider_of(MARKER * 20), subject=OTHER_SUBJECT, ttl=1)
    await storage.rotate(ids[0], ids[5])
    await storage.write_bytes(ids[0], MARKER, subject=OTHER_SUBJECT)
    await storage.invalidate(ids[1])
    await storage.revoke(SUBJECT, keep=ids[5])
    clock.advance(2)
    await storage.purge()
    await storage.write_bytes(ids[6], MARKER * 2, subject=SUBJECT)
    await storage.touch(ids[6], ttl=100)
    return ids


def traces(dump: bytes, secret: bytes) -> list[bytes]:
    """The forms of a secret that are in a dump: itself, in hexadecimal, and in base64 at each offset."""
    forms = [secret, secret.hex().encode()]
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)
        forms.append(encoded[4 if before else 0 : len(encoded) - 4])
    lower = dump.lower()
    return [form for form in forms if form in dump or form.lower() in lower]


@each_database
async def test_with_keys_it_shows_no_id_no_subject_and_no_data(sql_url: str, clock: ManualClock) -> None:
    sql = SqlSessionStorage(sql_url, clock=clock, keys=[KEY], namespace="shop", **TINY)
    encrypted = EncryptedStorage(sql, [OTHER], encrypt_subjects=True)
    async with CompressedStorage(encrypted) as storage:
        ids = await use(storage, clock)
        dump = await dumped(sql_url)
    secret = [id.encode() for id in ids] + [SUBJECT.encode(), OTHER_SUBJECT.encode(), MARKER, KEY, OTHER]
    assert not [form for each in secret for form in traces(dump, each)]
    # Nor what proves a guessed id, as its plain digest would.
    digests = [digest(id) for id in ids]
    assert not [form for each in digests for form in traces(dump, each)]


@each_database
async def test_without_keys_it_shows_subjects_data_and_digests(sql_url: str, clock: ManualClock) -> None:
    """So that the test above would find them."""
    async with SqlSessionStorage(sql_url, clock=clock, **TINY) as storage:
        ids = await use(storage, clock)
        dump = await dumped(sql_url)
        assert traces(dump, SUBJECT.encode())
        assert traces(dump, MARKER)
        assert traces(dump, storage.digest(ids[6]))
    assert not [form for id in ids for form in traces(dump, id.encode())]
