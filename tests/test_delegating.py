"""`DelegatingStorage`: the contract through a layer that changes nothing, and what reaches the delegate."""

from __future__ import annotations

import inspect
import time
from typing import Any

import pytest

from sqlsessions import (
    DEFAULT,
    KEEP,
    DelegatingStorage,
    InvalidArgumentType,
    ManagedSessionStorage,
    Purged,
    SessionStorage,
    SessionStorageMemory,
    UnsupportedOperation,
)
from sqlsessions.testing import ManualClock, StorageContract
from sqlsessions.testing._base import provider_of, whole

from .cache.support import Plain, Recorder


@pytest.mark.variant
class TestOverManaged(StorageContract):
    async def create_storage(self, clock: ManualClock) -> SessionStorage:
        return DelegatingStorage(SessionStorageMemory(clock=clock))


def test_everything_of_the_contract_is_forwarded() -> None:
    """A method that is added to the contract is forwarded too, rather than done by its default."""
    contract = {
        name for name, value in inspect.getmembers(ManagedSessionStorage) if inspect.isfunction(value)
    }
    public = {name for name in contract if not name.startswith("_")}
    assert public <= vars(DelegatingStorage).keys()
    assert {"write", "read", "purging", "aclose"} <= public


async def test_a_plain_storage_has_the_verbs_and_their_byte_forms() -> None:
    plain = Plain()
    async with DelegatingStorage(plain) as storage:
        await storage.write("id", provider_of(b"data"))
        assert await storage.read("id", whole) == await storage.read_bytes("id") == b"data"
        await storage.write_bytes("id", b"more", ttl=DEFAULT, max_age=DEFAULT, subject=KEEP, if_match=None)
        assert plain.kept == {"id": b"more"}
        await storage.invalidate("id")
        assert plain.kept == {}


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("load", lambda storage: storage.load("id")),
        ("info", lambda storage: storage.info("id")),
        ("touch", lambda storage: storage.touch("id")),
        ("rotate", lambda storage: storage.rotate("id", "new")),
        ("sessions", lambda storage: storage.sessions()),
        ("revoke", lambda storage: storage.revoke("ann")),
        ("invalidate_key", lambda storage: storage.invalidate_key("00" * 32)),
        ("purge", lambda storage: storage.purge()),
        ("purging", lambda storage: storage.purging()),
        ("write with ttl, subject", lambda storage: storage.write_bytes("id", b"", ttl=5, subject="ann")),
        ("write with if_match", lambda storage: storage.write("id", provider_of(b""), if_match=0)),
    ],
)
async def test_what_a_plain_storage_lacks_is_named(operation: str, call: Any) -> None:
    plain = Plain()
    wanted = f"^{operation} needs a ManagedSessionStorage beneath DelegatingStorage, and Plain is a plain "
    with pytest.raises(UnsupportedOperation, match=wanted):
        await call(DelegatingStorage(plain))
    assert plain.kept == {}


async def test_an_option_that_does_not_exist_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="lifetime"):
        await DelegatingStorage(SessionStorageMemory()).write_bytes("id", b"", lifetime=5)  # type: ignore[call-arg]


async def test_it_has_the_clock_of_its_delegate_and_closes_it(clock: ManualClock) -> None:
    delegate = Recorder(clock=clock)
    async with DelegatingStorage(DelegatingStorage(delegate)) as storage:
        assert storage.clock is clock
        assert isinstance(storage.delegate, DelegatingStorage)
        assert storage.delegate.delegate is delegate
        assert delegate.closed == 0
    assert delegate.closed == 1
    assert DelegatingStorage(Plain()).clock is time.time


async def test_purging_is_the_delegates_own(clock: ManualClock) -> None:
    class Twice(SessionStorageMemory):
        def purging(self, **options: Any) -> Any:
            purging = super().purging(**options)
            purging._batches = self._twice
            return purging

        async def _twice(self, size: int) -> Any:
            for _ in range(2):
                yield Purged(size)

    assert await DelegatingStorage(Twice()).purging(batch_size=7).once() == Purged(14)


@pytest.mark.parametrize("delegate", ["sqlite://", None, SessionStorageMemory], ids=repr)
def test_a_delegate_that_is_no_storage_is_refused(delegate: Any) -> None:
    with pytest.raises(InvalidArgumentType, match=r"^delegate must be"):
        DelegatingStorage(delegate)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
