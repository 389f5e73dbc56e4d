"""Secret keys: what is taken, and what is refused without a word of the key."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from sqlsessions import InvalidArgument, InvalidArgumentType
from sqlsessions._keys import checked_keys, keys_from_environment, keys_from_file

KEY = bytes(range(224, 256))
TEXT = base64.b64encode(KEY).decode()


@pytest.mark.parametrize(
    "key", [KEY, bytearray(KEY), TEXT, TEXT.rstrip("="), base64.urlsafe_b64encode(KEY).decode(), f" {TEXT}\n"]
)
def test_bytes_and_base64_are_taken(key: Any) -> None:
    assert checked_keys([key]) == checked_keys(lambda: (key,)) == (KEY,)


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        (TEXT, InvalidArgumentType, "keys must be a list of keys, or a function that gives one, not str"),
        (KEY, InvalidArgumentType, "keys must be a list of keys, or a function that gives one, not bytes"),
        (
            None,
            InvalidArgumentType,
            "keys must be a list of keys, or a function that gives one, not NoneType",
        ),
        ([], InvalidArgument, "keys must hold at least one key: `sqlsessions new-key` makes one"),
        ([KEY, b"secret"], InvalidArgument, "key 2 of keys must hold 32 bytes, not 6"),
        (["c2VjcmV0"], InvalidArgument, "key 1 of keys must hold 32 bytes, not 6"),
        (
            ["secret!"],
            InvalidArgument,
            "key 1 of keys is text, but not base64: `sqlsessions new-key` makes one",
        ),
        (
            ["sécret"],
            InvalidArgument,
            "key 1 of keys is text, but not base64: `sqlsessions new-key` makes one",
        ),
        ([7], InvalidArgumentType, "key 1 of keys must be bytes or base64 text, not int"),
        ([KEY, TEXT], InvalidArgument, "keys holds a key twice"),
    ],
)
def test_others_are_refused(keys: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        checked_keys(keys)
    assert str(caught.value) == message
    assert caught.value.__context__ is None


def test_keys_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (f"{TEXT},{TEXT}", f" {TEXT} {TEXT}\n", f"{TEXT}, {TEXT}"):
        monkeypatch.setenv("KEYS", text)
        assert keys_from_environment("KEYS") == [TEXT, TEXT]
    monkeypatch.setenv("KEYS", " ")
    for name in ("KEYS", "NONE"):
        with pytest.raises(InvalidArgument, match=f"the variable {name} holds no keys"):
            keys_from_environment(name)


def test_keys_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# the newest first\n{TEXT}\n\n{TEXT} # until May\n")
    assert keys_from_file(file) == keys_from_file(str(file)) == [TEXT, TEXT]
    file.write_text("# none\n")
    with pytest.raises(InvalidArgument, match="holds no keys"):
        keys_from_file(file)
    file.write_bytes(KEY)
    with pytest.raises(InvalidArgument, match="it is not ASCII text"):
        keys_from_file(file)
    with pytest.raises(InvalidArgument, match=r"cannot read keys from '.*missing': No such file"):
        keys_from_file(tmp_path / "missing")
