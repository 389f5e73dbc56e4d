"""A storage whose operations make spans and metrics."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from opentelemetry.metrics import MeterProvider, get_meter_provider
from opentelemetry.trace import (
    SpanKind,
    TracerProvider,
    get_tracer_provider,
)

from ...channels import Consumer, Provider, awaitable, require_callable
from ...errors import InvalidArgument, InvalidArgumentType, SessionNotFound
from ...info import SessionInfo, Snapshot
from ...purging import Purged, Turn
from ...records import Clock
from ...storage import DEFAULT, KEEP, Bytes, Default, Duration, Keep, ManagedSessionStorage
from .instruments import SCOPE, Instruments, instruments_of
from .source import Source, layers
from .spans import Operation

R = TypeVar("R")


def instrument(
    storage: ManagedSessionStorage,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> ManagedSessionStorage:
    """Put spans and metrics over a storage: use what this returns in its place.

    Args:
        storage: The outermost storage, for instance a `CacheStorage` over a `SqlSessionStorage`; what is
            beneath is measured too. It is closed with what is returned.
        tracer_provider: Where spans go; the global one unless set.
        meter_provider: Where metrics go; the global one unless set.

    Raises:
        InvalidArgumentType: If it is not a `ManagedSessionStorage`.
        InvalidArgument: If it, or a storage beneath it, is instrumented already.
    """
    if not isinstance(storage, ManagedSessionStorage):
        raise InvalidArgumentType(f"storage must be a ManagedSessionStorage, not {type(storage).__name__}")
    if any(isinstance(layer, InstrumentedStorage) for layer in layers(storage)):
        raise InvalidArgument("storage is instrumented already: instrument the outermost storage, once")
    return InstrumentedStorage(
        storage, tracer_provider or get_tracer_provider(), meter_provider or get_meter_provider()
    )


class InstrumentedStorage(ManagedSessionStorage):
    """A storage whose operations make spans and metrics. Made by `instrument`.

    Args:
        delegate: The storage beneath; closed with this one.
        tracer_provider: Where spans go.
        meter_provider: Where metrics go.
    """

    def __init__(
        self, delegate: ManagedSessionStorage, tracer_provider: TracerProvider, meter_provider: MeterProvider
    ) -> None:
        self._delegate = delegate
        self.clock: Clock = getattr(delegate, "clock", time.time)
        self._tracer = tracer_provider.get_tracer(SCOPE)
        self._instruments: Instruments = instruments_of(meter_provider)
        self._source = Source(delegate)
        self._source.observe(self._instruments)
        self._instruments.watch(self._source)

    async def write(
        self,
        id: str,
        provider: Provider,
        *,
        ttl: Duration | Default | None = DEFAULT,
        max_age: Duration | Default | None = DEFAULT,
        subject: str | Keep | None = KEEP,
        if_match: int | None = None,
    ) -> SessionInfo:
        with self._operation("write") as operation:
            info = await self._delegate.write(
                id, provider, ttl=ttl, max_age=max_age, subject=subject, if_match=if_match
            )
            operation.size(info.size)
            return info

    async def write_bytes(
        self,
        id: str,
        data: Bytes,
        *,
        ttl: Duration | Default | None = DEFAULT,
        max_age: Duration | Default | None = DEFAULT,
        subject: str | Keep | None = KEEP,
        if_match: int | None = None,
    ) -> SessionInfo:
        with self._operation("write") as operation:
            info = await self._delegate.write_bytes(
                id, data, ttl=ttl, max_age=max_age, subject=subject, if_match=if_match
            )
            operation.size(info.size)
            return info

    async def read(self, id: str, consumer: Consumer[R]) -> R:
        require_callable("consumer", consumer)
        consuming = False

        async def consume(channel: Any) -> R:
            nonlocal consuming
            consuming = True
            operation.found(yes=True)
            if channel.info is not None:
                operation.size(channel.info.size)
            return await awaitable("consumer", consumer(channel))

        with self._operation("read") as operation:
            try:
                return await self._delegate.read(id, consume)
            except SessionNotFound:
                if not consuming:
                    operation.found(yes=False)
                raise

    async def read_bytes(self, id: str) -> bytes:
        with self._operation("read") as operation:
            try:
                data = await self._delegate.read_bytes(id)
            except SessionNotFound:
                operation.found(yes=False)
                raise
            operation.found(yes=True)
            operation.size(len(data))
            return data

    async def load(self, id: str) -> Snapshot | None:
        with self._operation("read") as operation:
            snapshot = await self._delegate.load(id)
            operation.found(yes=snapshot is not None)
            if snapshot is not None:
                operation.size(snapshot.info.size)
            return snapshot

    async def info(self, id: str) -> SessionInfo | None:
        with self._operation("info") as operation:
            info = await self._delegate.info(id)
            operation.found(yes=info is not None)
            return info

    async def touch(self, id: str, *, ttl: Duration | Default | None = DEFAULT) -> SessionInfo | None:
        with self._operation("touch") as operation:
            info = await self._delegate.touch(id, ttl=ttl)
            operation.found(yes=info is not None)
            return info

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        with self._operation("rotate") as operation:
            try:
                info = await self._delegate.rotate(id, new_id)
            except SessionNotFound:
                operation.found(yes=False)
                raise
            operation.found(yes=True)
            return info

    async def invalidate(self, id: str) -> None:
        with self._operation("invalidate"):
            await self._delegate.invalidate(id)

    async def invalidate_key(self, key: str) -> bool:
        with self._operation("invalidate"):
            return await self._delegate.invalidate_key(key)

    async def revoke(self, subject: str, *, keep: str | None = None) -> int:
        with self._operation("revoke"):
            return await self._delegate.revoke(subject, keep=keep)

    async def sessions(self, subject: str | None = None) -> AsyncIterator[SessionInfo]:
        # A generator may be resumed in another context, so that its span is nobody's parent.
        with self._operation("list", current=False):
            async for info in self._delegate.sessions(subject):
                yield info

    async def purge(self, *, batch_size: int = 1000, max_batches: int | None = None) -> int:
        with self._operation("purge"):
            count = await self._delegate.purge(batch_size=batch_size, max_batches=max_batches)
            self._instruments.purged(Purged(count), self._source.common)
            return count

    def _purge_lease(self) -> AbstractAsyncContextManager[Turn | None]:
        return self._delegate._purge_lease()  # noqa: SLF001 (the same method)

    async def _purge_batches(self, batch_size: int) -> AsyncIterator[Purged]:
        purged = Purged()
        with self._operation("purge", current=False):
            try:
                async for step in self._delegate._purge_batches(batch_size):  # noqa: SLF001
                    purged += step
                    yield step
            finally:
                self._instruments.purged(purged, self._source.common)

    async def aclose(self) -> None:
        """Stop measuring, and close the delegate."""
        try:
            await self._delegate.aclose()
        finally:
            self._instruments.forget(self._source)
            self._source.observe(None)

    def _operation(self, name: str, *, current: bool = True) -> Operation:
        source = self._source
        span = self._tracer.start_span(name + source.target, kind=SpanKind.CLIENT, attributes=source.of(name))
        return Operation(self._instruments, source, span, name, current=current)
