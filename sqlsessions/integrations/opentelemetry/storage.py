"""`InstrumentedStorage`: the layer that makes a span and a duration of each operation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar, Unpack

from ...errors import InvalidArgument, InvalidArgumentType, SessionNotFound, missing

try:
    from opentelemetry.metrics import MeterProvider, get_meter_provider
except ModuleNotFoundError as error:
    raise missing(error, "sqlsessions.integrations.opentelemetry", "otel") from error
from opentelemetry.trace import SpanKind, TracerProvider, get_tracer_provider

from ...channels import Bytes, Consumer, Provider, awaitable, require_callable
from ...delegating import DelegatingStorage, WriteOptions, layers
from ...info import EndedSession, Rebinding, SessionInfo, Snapshot
from ...purging import Purged, Purging
from ...storage import DEFAULT, Default, Duration, Keep, ManagedSessionStorage
from .instruments import SCOPE, instruments_of
from .source import Source
from .spans import Operation

R = TypeVar("R")


def instrument(
    storage: ManagedSessionStorage,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> ManagedSessionStorage:
    """Put a layer of spans and metrics over a storage.

    Args:
        storage: The outermost storage, for instance a `CacheStorage` over a `SqlSessionStorage`; the
            storages beneath are measured too.
        tracer_provider: Receives the spans; the global one unless set.
        meter_provider: Receives the metrics; the global one unless set.

    Returns:
        The storage to use in its place; closing it closes both.

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


class InstrumentedStorage(DelegatingStorage):
    """A storage whose operations make spans and metrics. Made by `instrument`.

    Args:
        delegate: The storage beneath; closed with this one.
        tracer_provider: Receives the spans.
        meter_provider: Receives the metrics.
    """

    def __init__(
        self, delegate: ManagedSessionStorage, tracer_provider: TracerProvider, meter_provider: MeterProvider
    ) -> None:
        super().__init__(delegate)
        self._tracer = tracer_provider.get_tracer(SCOPE)
        self._instruments = instruments_of(meter_provider)
        self._source = Source(delegate)
        self._instruments.attach(self._source)

    async def write(self, id: str, provider: Provider, **options: Unpack[WriteOptions]) -> SessionInfo:
        with self._operation("write") as operation:
            info = await super().write(id, provider, **options)
            operation.size(info.size)
            return info

    async def write_bytes(self, id: str, data: Bytes, **options: Unpack[WriteOptions]) -> SessionInfo:
        with self._operation("write") as operation:
            info = await super().write_bytes(id, data, **options)
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
                return await super().read(id, consume)
            except SessionNotFound:
                if not consuming:
                    operation.found(yes=False)
                raise

    async def read_bytes(self, id: str) -> bytes:
        with self._operation("read") as operation:
            try:
                data = await super().read_bytes(id)
            except SessionNotFound:
                operation.found(yes=False)
                raise
            operation.found(yes=True)
            operation.size(len(data))
            return data

    async def load(self, id: str) -> Snapshot | None:
        with self._operation("read") as operation:
            snapshot = await super().load(id)
            operation.found(yes=snapshot is not None)
            if snapshot is not None:
                operation.size(snapshot.info.size)
            return snapshot

    async def info(self, id: str) -> SessionInfo | None:
        with self._operation("info") as operation:
            info = await super().info(id)
            operation.found(yes=info is not None)
            return info

    async def touch(self, id: str, *, ttl: Duration | Default | Keep | None = DEFAULT) -> SessionInfo | None:
        with self._operation("touch") as operation:
            info = await super().touch(id, ttl=ttl)
            operation.found(yes=info is not None)
            return info

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        return await self._rotate(super().rotate(id, new_id))

    async def rotate_with(self, id: str, new_id: str, rebinding: Rebinding) -> SessionInfo:
        return await self._rotate(super().rotate_with(id, new_id, rebinding))

    async def rebind(self, key: str, rebinding: Rebinding) -> bool:
        with self._operation("write"):
            return await super().rebind(key, rebinding)

    async def _rotate(self, rotation: Awaitable[SessionInfo]) -> SessionInfo:
        with self._operation("rotate") as operation:
            try:
                info = await rotation
            except SessionNotFound:
                operation.found(yes=False)
                raise
            operation.found(yes=True)
            return info

    async def invalidate(self, id: str) -> None:
        with self._operation("invalidate"):
            await super().invalidate(id)

    async def invalidate_key(self, key: str, *, connection: Any = None) -> bool:
        with self._operation("invalidate"):
            return await super().invalidate_key(key, connection=connection)

    async def load_key(self, key: str) -> Snapshot | None:
        with self._operation("read"):
            return await super().load_key(key)

    async def write_key(self, key: str, data: Bytes, *, if_match: int) -> SessionInfo:
        with self._operation("write"):
            return await super().write_key(key, data, if_match=if_match)

    async def revoke(self, subject: str, *, keep: str | None = None, connection: Any = None) -> int:
        with self._operation("revoke"):
            return await super().revoke(subject, keep=keep, connection=connection)

    async def revoke_all(self, before: datetime | None = None) -> int:
        with self._operation("revoke"):
            return await super().revoke_all(before)

    async def revoke_label(self, label: str) -> int:
        with self._operation("revoke"):
            return await super().revoke_label(label)

    async def sessions(
        self, subject: str | None = None, *, label: str | None = None
    ) -> AsyncIterator[SessionInfo]:
        # A generator may be resumed in another context, so its span cannot be the parent of others.
        with self._operation("list", current=False):
            async for info in super().sessions(subject, label=label):
                yield info

    async def ended(
        self, subject: str | None = None, *, since: datetime | None = None
    ) -> AsyncIterator[EndedSession]:
        with self._operation("list", current=False):
            async for each in super().ended(subject, since=since):
                yield each

    async def purge(self, *, batch_size: int = 1000, max_batches: int | None = None) -> int:
        with self._operation("purge"):
            count = await super().purge(batch_size=batch_size, max_batches=max_batches)
            self._instruments.purged(Purged(count), self._source.common)
            return count

    def purging(
        self,
        *,
        every: Duration = 300.0,
        batch_size: int = 1000,
        progress: Callable[[Purged], None] | None = None,
    ) -> Purging:
        purging = super().purging(every=every, batch_size=batch_size, progress=progress)
        purging.observer = self._purge_round
        return purging

    @contextmanager
    def _purge_round(self) -> Iterator[Callable[[Purged], None]]:
        total = Purged()

        def add(deleted: Purged) -> None:
            nonlocal total
            total += deleted

        with self._operation("purge"):
            try:
                yield add
            finally:
                self._instruments.purged(total, self._source.common)

    async def aclose(self) -> None:
        """Stop measuring, and close the delegate."""
        try:
            await super().aclose()
        finally:
            self._instruments.detach(self._source)

    def _operation(self, name: str, *, current: bool = True) -> Operation:
        source = self._source
        span = self._tracer.start_span(name + source.target, kind=SpanKind.CLIENT, attributes=source.of(name))
        return Operation(self._instruments, source, span, name, current=current)
