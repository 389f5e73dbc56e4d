"""The commands ``new-key`` and ``rekey``."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from sqlsessions import EncryptedStorage, SessionCorrupt, SqlSessionStorage

from .support import in_terminal, run


def new_key() -> str:
    result = run("new-key")
    assert result.exit_code == 0
    return result.stdout.strip()


async def write(url: str, keys: list[str], *ids: str, namespace: str | None = None) -> None:
    kept = SqlSessionStorage(url, namespace=namespace)
    async with EncryptedStorage(kept, keys, encrypt_subjects=True) as storage:
        for id in ids:
            await storage.write_bytes(id, b"data", subject="ann")


def test_keys_are_new_and_hold_32_bytes() -> None:
    first, second = new_key(), new_key()
    assert first != second
    assert len(base64.urlsafe_b64decode(first)) == 32


def test_rekey(make: Callable[[], str], tmp_path: Path) -> None:
    url, old, new = make(), new_key(), new_key()
    asyncio.run(write(url, [old], "one", "two"))
    asyncio.run(write(url, [new], "three"))
    file = tmp_path / "keys"
    file.write_text(f"{new} # the new one\n{old}\n")
    result = run("rekey", "--url", url, "--keys-file", str(file), "--encrypt-subjects")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "3 sessions, 2 of them put under the first key\n"

    async def read() -> None:
        async with EncryptedStorage(SqlSessionStorage(url), [new], encrypt_subjects=True) as storage:
            assert [await storage.read_bytes(id) for id in ("one", "two", "three")] == [b"data"] * 3
            assert await storage.revoke("ann") == 3

    asyncio.run(read())


def test_rekey_does_a_namespace_and_tells_of_the_others(make: Callable[[], str]) -> None:
    url, old, new = make(), new_key(), new_key()
    for namespace in (None, "shop", "office"):
        asyncio.run(write(url, [old], f"of {namespace}", namespace=namespace))
    result = run("rekey", "--url", url, SQLSESSIONS_KEYS=f"{new},{old}")
    assert (result.exit_code, result.stdout) == (0, "1 session, 1 of them put under the first key\n")
    line = "sessions of 2 other namespaces were left out: each takes a run of its own\n"
    assert result.stderr == line
    result = run("rekey", "--url", url, "--namespace", "shop", SQLSESSIONS_KEYS=f"{new},{old}")
    assert (result.exit_code, result.stdout) == (0, "1 session, 1 of them put under the first key\n")
    line = "sessions of 1 other namespace and of no namespace were left out: each takes a run of its own\n"
    assert result.stderr == line

    async def read(namespace: str | None) -> bytes:
        async with EncryptedStorage(SqlSessionStorage(url, namespace=namespace), [new]) as storage:
            return await storage.read_bytes(f"of {namespace}")

    assert asyncio.run(read("shop")) == b"data"
    with pytest.raises(SessionCorrupt):
        asyncio.run(read("office"))
    result = run("revoke", "--url", url, "--all", "--yes")
    assert (result.exit_code, result.stdout) == (0, "ended 1 session\n")
    assert result.stderr == "sessions of 2 other namespaces were left out: each takes a run of its own\n"


def test_rekey_tells_of_what_it_cannot_read(make: Callable[[], str]) -> None:
    url, old, new = make(), new_key(), new_key()
    asyncio.run(write(url, [old], "one"))
    result = run("rekey", "--url", url, SQLSESSIONS_KEYS=new)
    assert result.exit_code == 1
    assert result.stderr == "sqlsessions: 1 sessions are under none of the keys, or not encrypted\n"


def test_rekey_in_a_terminal(make: Callable[[], str]) -> None:
    url, old, new = make(), new_key(), new_key()
    asyncio.run(write(url, [old], "one"))
    code, shown = in_terminal("rekey", SQLSESSIONS_URL=url, SQLSESSIONS_KEYS=f"{new},{old}")
    assert code == 0
    assert "1 session, 1 of them put under the first key" in shown


@pytest.mark.parametrize("keys", ["", "secret!", "c2VjcmV0"])
def test_wrong_keys_are_wrong_usage_and_not_shown(make: Callable[[], str], keys: str) -> None:
    result = run("rekey", "--url", make(), SQLSESSIONS_KEYS=keys)
    assert result.exit_code == 2
    assert "new-key" in result.stderr or "must hold 32 bytes" in result.stderr
    assert not keys or keys not in result.stderr
