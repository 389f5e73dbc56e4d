"""Ids are exact, bounded, and told to nobody."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator
from hashlib import sha256
from typing import Any

import pytest

from .. import (
    ByteReadChannel,
    InvalidArgument,
    InvalidArgumentType,
    InvalidSessionId,
    ManagedSessionStorage,
    SessionConflict,
    SessionNotFound,
    SessionStorage,
)
from ._base import Contract, provider_of, whole

ALIKE = [
    ("id", "ID", "Id"),
    ("cafe", "caf\u00e9", "cafe\u0301"),  # no accent, composed, decomposed
    ("\ufb01", "fi", "\uff46\uff49"),  # equal by compatibility only
    ("stra\u00dfe", "strasse", "STRASSE"),
    ("id", "id ", " id", "id\t", "id\n", "id\u00a0"),
    ("id", "id\0", "\0id", "id\0more", "\0"),
    ("id", "id\u200b", "id\ufeff"),  # ignored by many collations
    ("1", "01", "1.0"),
    ("\U0001f600", "\U0001f601", "?"),
    ("%", "_", "i%", "i_"),
    ("x" * 255, "x" * 256, "x" * 257),
    ("x" * 4095 + "y", "x" * 4095 + "z", "x" * 4095),
]
ACCEPTED = [
    " ", "\0", "'; DROP TABLE sessions; --", "../../etc/passwd", 'quo"te', ":p_id", "%(id)s", "\\", "\r\n",
    "x" * 4096, "\u00e9" * 2048, "\U0001f600" * 1024,
]  # fmt: skip
REFUSED = ["", "x" * 4097, "\u00e9" * 2048 + "x", "\U0001f600" * 1025, "SECRET\ud800", "\udcff"]
NO_STRINGS: list[Any] = [None, b"id", 5, ["id"]]
SECRET = "SECRET-id"
DATA = b"SECRET-data" * 10

Call = Callable[[], Coroutine[Any, Any, Any]]


class Ids(Contract):
    @pytest.mark.parametrize("ids", ALIKE, ids=lambda ids: ascii(ids)[:40])
    async def test_ids_that_look_alike_are_different(
        self, storage: SessionStorage, ids: tuple[str, ...]
    ) -> None:
        for id in ids:
            with pytest.raises(SessionNotFound):
                await storage.read_bytes(id)
            await storage.write_bytes(id, sha256(id.encode()).digest())
        await storage.invalidate(ids[0])
        for id in ids[1:]:
            assert await storage.read_bytes(id) == sha256(id.encode()).digest()
        with pytest.raises(SessionNotFound):
            await storage.read_bytes(ids[0])

    async def test_an_id_may_hold_anything(self, storage: SessionStorage) -> None:
        for id in ACCEPTED:
            await storage.write_bytes(id, b"data")
            assert await storage.read(id, whole) == b"data"
            await storage.invalidate(id)
            with pytest.raises(SessionNotFound):
                await storage.read_bytes(id)

    async def test_ids_out_of_bounds_are_refused_by_every_verb(self, storage: SessionStorage) -> None:
        for id in REFUSED:
            for call in _verbs(storage, id):
                with pytest.raises(InvalidSessionId) as caught:
                    await call()
                _assert_silent(caught.value, id)

    async def test_ids_out_of_bounds_are_refused_by_every_method(
        self, managed: ManagedSessionStorage
    ) -> None:
        await managed.write_bytes("live", DATA)
        for id in REFUSED:
            for call in _methods(managed, id):
                with pytest.raises(InvalidSessionId) as caught:
                    await call()
                _assert_silent(caught.value, id)
        assert await managed.read_bytes("live") == DATA

    async def test_ids_that_are_no_strings_are_refused(self, storage: SessionStorage) -> None:
        for id in NO_STRINGS:
            for call in _verbs(storage, id):
                with pytest.raises(InvalidArgumentType):
                    await call()

    async def test_ids_that_are_no_strings_are_refused_by_every_method(
        self, managed: ManagedSessionStorage
    ) -> None:
        await managed.write_bytes("live", DATA)
        for id in NO_STRINGS[1:]:
            for call in _methods(managed, id):
                with pytest.raises(InvalidArgumentType):
                    await call()

    async def test_no_error_of_a_verb_holds_an_id_or_data(self, storage: SessionStorage) -> None:
        async def misuse(channel: ByteReadChannel) -> None:
            await channel.readexactly(-1)

        cases: list[tuple[type[Exception], Call]] = [
            (SessionNotFound, lambda: storage.read(SECRET, whole)),
            (SessionNotFound, lambda: storage.read_bytes(SECRET)),
            (InvalidArgumentType, lambda: storage.write(SECRET, provider_of(DATA, "text"))),  # type: ignore[arg-type]
            (InvalidArgumentType, lambda: storage.write(SECRET, DATA)),  # type: ignore[arg-type]
            (ValueError, lambda: storage.write(SECRET, provider_of(DATA, then=ValueError("mine")))),
        ]
        for error, call in cases:
            with pytest.raises(error) as caught:
                await call()
            _assert_silent(caught.value, SECRET)
        await storage.write_bytes(SECRET, DATA)
        with pytest.raises(InvalidArgument) as refused:
            await storage.read(SECRET, misuse)
        _assert_silent(refused.value, SECRET)

    async def test_no_error_of_a_method_holds_an_id_or_data(self, managed: ManagedSessionStorage) -> None:
        await managed.write_bytes(SECRET, DATA)
        await managed.write_bytes("taken", DATA)
        cases: list[tuple[type[Exception], Call]] = [
            (SessionConflict, lambda: managed.write_bytes(SECRET, DATA, if_match=0)),
            (SessionConflict, lambda: managed.write_bytes(SECRET, DATA * 100_000, if_match=1)),
            (SessionConflict, lambda: managed.rotate(SECRET, "taken")),
            (SessionNotFound, lambda: managed.rotate(SECRET + " missing", SECRET)),
            (InvalidArgument, lambda: managed.write_bytes(SECRET, DATA, ttl=0)),
            (InvalidArgument, lambda: managed.write_bytes(SECRET, DATA, subject="\0")),
        ]
        for error, call in cases:
            with pytest.raises(error) as caught:
                await call()
            _assert_silent(caught.value, SECRET)

    async def test_no_log_line_holds_an_id(
        self, storage: SessionStorage, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            for size in ("small", "large"):
                await storage.write_bytes(SECRET, self.blob(size))
                await storage.read(SECRET, whole)
                with pytest.raises(ValueError, match="mine"):
                    await storage.write(SECRET, provider_of(self.blob(size), then=ValueError("mine")))
                await storage.invalidate(SECRET)
                with pytest.raises(SessionNotFound):
                    await storage.read_bytes(SECRET)
        assert SECRET not in caplog.text

    async def test_no_repr_holds_an_id_or_data(self, managed: ManagedSessionStorage) -> None:
        await managed.write_bytes(SECRET, DATA)
        shown = repr(await managed.load(SECRET)) + repr(await managed.info(SECRET)) + repr(managed)
        assert "SECRET" not in shown


def _verbs(storage: SessionStorage, id: str) -> list[Call]:
    return [
        lambda: storage.write(id, provider_of(DATA)),
        lambda: storage.write_bytes(id, DATA),
        lambda: storage.read(id, whole),
        lambda: storage.read_bytes(id),
        lambda: storage.invalidate(id),
    ]


def _methods(managed: ManagedSessionStorage, id: str) -> list[Call]:
    return [
        lambda: managed.write_bytes(id, DATA, ttl=60, subject="ann"),
        lambda: managed.load(id),
        lambda: managed.info(id),
        lambda: managed.touch(id),
        lambda: managed.rotate(id, "new"),
        lambda: managed.rotate("live", id),
        lambda: managed.revoke("ann", keep=id),
    ]


def _assert_silent(error: BaseException, id: str) -> None:
    """Neither the error nor those that it came from tell an id or data."""
    for cause in _chain(error):
        told = f"{cause} {cause!r} {cause.args!r}"
        assert "SECRET" not in told
        assert len(id) < 10 or id not in told


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    if error is not None:
        yield error
        yield from _chain(error.__cause__)
        yield from _chain(error.__context__)
