"""Spans and metrics, with the in-memory exporter and reader of the SDK."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from httpx import ASGITransport, AsyncClient
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import NullPool
from sqlalchemy.ext.asyncio import create_async_engine

from sqlsessions import (
    CacheStorage,
    InvalidArgument,
    InvalidArgumentType,
    ManagedSessionStorage,
    Purged,
    SessionConflict,
    SessionNotFound,
    SqlSessionStorage,
    StorageUnavailable,
)
from sqlsessions.integrations.opentelemetry import instrument
from sqlsessions.testing import ManualClock, SpyStorage, StorageContract
from sqlsessions.testing._base import provider_of, whole

from ..faults.proxy import Proxy
from ..integrations.starlette.app import app_of
from ..sql.support import age, postgresql, reconnect
from .conftest import Create


class Telemetry:
    """Where spans and metrics go."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)

    def over(self, storage: ManagedSessionStorage) -> ManagedSessionStorage:
        return instrument(storage, tracer_provider=self.tracer_provider, meter_provider=self.meter_provider)

    def spans(self) -> list[Any]:
        found = list(self._exporter.get_finished_spans())
        self._exporter.clear()
        return found

    def points(self) -> dict[str, list[Any]]:
        """The data points of each metric."""
        data = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def totals(self) -> dict[str, int]:
        """The sum of each metric; of a histogram, how often it was recorded."""
        return {
            name: sum(int(getattr(point, "value", 0) or getattr(point, "count", 0)) for point in points)
            for name, points in self.points().items()
        }


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    made = Telemetry()
    yield made
    made.tracer_provider.shutdown()
    made.meter_provider.shutdown()


async def test_each_operation_makes_a_span_and_a_duration(
    create: Create, telemetry: Telemetry, clock: ManualClock
) -> None:
    storage = create()
    sql = isinstance(storage, SqlSessionStorage)
    async with telemetry.over(storage) as observed:
        await observed.write_bytes("id", b"12345", subject="ann")
        await observed.write("large", provider_of(b"x" * 500), ttl=5)
        await observed.read("id", whole)
        await observed.read_bytes("id")
        await observed.load("id")
        await observed.info("id")
        await observed.touch("id", ttl=50)
        await observed.rotate("id", "new")
        assert [info.size async for info in observed.sessions("ann")] == [5]
        await observed.invalidate("gone")
        assert await observed.revoke("ann") == 1
        clock.advance(5)
        assert await observed.purge() == 1
    spans = telemetry.spans()
    names = ["write", "write", "read", "read", "read", "info", "touch", "rotate", "list", "invalidate"]
    names += ["revoke", "purge"]
    assert [span.name for span in spans] == [f"{name} sessions" if sql else name for name in names]
    assert {span.kind for span in spans} == {SpanKind.CLIENT}
    assert {span.status.status_code for span in spans} == {StatusCode.UNSET}
    assert [span.attributes["db.operation.name"] for span in spans] == names
    assert [span.attributes.get("sqlsessions.session.size") for span in spans[:5]] == [5, 500, 5, 5, 5]
    system = {span.attributes["db.system.name"] for span in spans}
    assert system == {storage.engine.url.get_backend_name() if sql else "sqlsessions"}  # type: ignore[union-attr]
    totals = telemetry.totals()
    assert totals["db.client.operation.duration"] == len(names)
    assert totals["sqlsessions.lookups"] == 6
    wanted = {"created": 2, "rotated": 1, "invalidated": 1}
    assert {kind: totals[f"sqlsessions.sessions.{kind}"] for kind in wanted} == wanted
    assert (totals["sqlsessions.purge.sessions"], totals["sqlsessions.purge.rounds"]) == (1, 1)
    assert ("sqlsessions.batch.size" in totals) == sql
    shown = f"{[span.to_json() for span in spans]} {telemetry.points()}"
    assert "ann" not in shown.replace("channel", "")
    assert "12345" not in shown


async def test_a_round_of_purging_is_one_span(
    create: Create, telemetry: Telemetry, clock: ManualClock
) -> None:
    """Whether it comes to its end or is broken off, and whatever lies between."""
    storage = create()
    sql = isinstance(storage, SqlSessionStorage)
    async with telemetry.over(CacheStorage(storage)) as observed:
        for number in range(3):
            await observed.write(f"id {number}", provider_of(b"x" * 500), ttl=5)
        clock.advance(100)
        telemetry.spans()
        assert await observed.purging().once() == Purged(3)
        [span] = telemetry.spans()
        assert span.attributes["db.operation.name"] == "purge"
        assert span.status.status_code == StatusCode.UNSET
        if isinstance(storage, SqlSessionStorage):  # what readers may still read goes a minute later
            await age(storage.engine.url.render_as_string(hide_password=False), 61)
            assert await observed.purging().once() == Purged(0, 3 * (5 + 1))
        totals = telemetry.totals()
        names = ("sessions", "chunks", "rounds")
        wanted = [3, 18, 2] if sql else [3, 0, 1]
        assert [totals[f"sqlsessions.purge.{name}"] for name in names] == wanted

        await observed.write_bytes("another", b"data", ttl=5)
        clock.advance(100)
        telemetry.spans()

        def fail(_done: Purged) -> None:
            raise ValueError("of the callback")

        with pytest.raises(ValueError, match="callback"):
            await observed.purging(progress=fail).once()
        [span] = telemetry.spans()
        assert span.attributes["error.type"] == "ValueError"
        totals = telemetry.totals()
        wanted = [4, wanted[1], wanted[2] + 1]
        assert [totals[f"sqlsessions.purge.{name}"] for name in names] == wanted


async def test_a_miss_is_no_error_and_a_conflict_is_one(create: Create, telemetry: Telemetry) -> None:
    async def fail(channel: Any) -> None:
        raise ValueError("what is confidential")

    async with telemetry.over(create()) as observed:
        for call in (observed.read_bytes("id"), observed.read("id", whole), observed.rotate("id", "new")):
            with pytest.raises(SessionNotFound):
                await call
        for found in (observed.load("id"), observed.info("id"), observed.touch("id")):
            assert await found is None
        misses = telemetry.spans()
        assert {span.status.status_code for span in misses} == {StatusCode.UNSET}
        assert {span.attributes["sqlsessions.outcome"] for span in misses} == {"miss"}
        assert not any("error.type" in span.attributes for span in misses)
        with pytest.raises(SessionConflict):
            await observed.write_bytes("id", b"1", if_match=7)
        with pytest.raises(ValueError, match="confidential"):
            await observed.write("id", fail)
        with pytest.raises(asyncio.CancelledError):
            await observed.write("id", provider_of(b"1", then=asyncio.CancelledError()))
        failed = telemetry.spans()
    error, unset = StatusCode.ERROR, StatusCode.UNSET
    assert [(span.attributes["error.type"], span.status.status_code) for span in failed] == [
        ("SessionConflict", error), ("ValueError", error), ("CancelledError", unset),
    ]  # fmt: skip
    assert not any("confidential" in span.to_json() for span in failed)
    totals = telemetry.totals()
    assert (totals["sqlsessions.conflicts"], totals["sqlsessions.lookups"]) == (1, 6)
    durations = telemetry.points()["db.client.operation.duration"]
    assert sum(point.count for point in durations if "error.type" in point.attributes) == 3


async def test_a_span_covers_what_runs_within_the_call(create: Create, telemetry: Telemetry) -> None:
    async with telemetry.over(create()) as observed:
        await observed.write_bytes("id", b"1")

        async def consume(channel: Any) -> None:
            await observed.info("id")

        telemetry.spans()
        await observed.read("id", consume)
    inner, outer = telemetry.spans()
    assert inner.parent.span_id == outer.context.span_id
    assert outer.parent is None


async def test_a_cache_shows_its_figures(create: Create, telemetry: Telemetry) -> None:
    async with telemetry.over(CacheStorage(create(), bus=None)) as observed:
        await observed.write_bytes("id", b"12345")
        await observed.read_bytes("id")
        assert await observed.load("unknown") is None
        totals = telemetry.totals()
        shown = {name: totals[f"sqlsessions.cache.{name}"] for name in ("hits", "misses", "entries", "bytes")}
        assert shown == {"hits": 1, "misses": 1, "entries": 1, "bytes": 5}
        assert totals["sqlsessions.sessions.created"] == 1
    assert "sqlsessions.cache.entries" not in telemetry.totals()  # as it is closed


@postgresql
async def test_batches_connections_and_the_queue_are_shown(
    sql_url: str, telemetry: Telemetry, clock: ManualClock
) -> None:
    async with telemetry.over(SqlSessionStorage(sql_url, clock=clock, pool_size=3)) as observed:
        await observed.info("id")
        before = telemetry.points()["sqlsessions.batch.size"][0].sum
        tasks = [asyncio.create_task(observed.info("id")) for _ in range(100)]
        await asyncio.sleep(0)
        depths = telemetry.points()["sqlsessions.queue.depth"]
        assert max(point.value for point in depths) == 99  # since one goes ahead
        await asyncio.gather(*tasks)
        points = telemetry.points()
        [batches] = points["sqlsessions.batch.size"]
        assert batches.sum - before == 100
        assert batches.max >= 16
        connections = points["db.client.connection.count"]
        assert {point.attributes["db.client.connection.state"] for point in connections} == {"used", "idle"}
        assert 1 <= sum(point.value for point in connections) <= 3
        [most] = points["db.client.connection.max"]
        assert most.value == 3
        assert most.attributes["db.client.connection.pool.name"].startswith("127.0.0.1")
        assert points["db.client.connection.pending_requests"][0].value == 0
    [span, *_] = telemetry.spans()
    assert span.attributes["server.address"] == "127.0.0.1"
    assert span.attributes["db.namespace"] in sql_url


@postgresql
async def test_retries_and_codes_of_failures_are_shown(
    sql_url: str, telemetry: Telemetry, clock: ManualClock
) -> None:
    async with Proxy.to(sql_url) as proxy:
        storage = SqlSessionStorage(proxy.url, clock=clock)
        async with telemetry.over(storage) as observed:
            await reconnect(storage)
            with proxy.losing("answer", 2):
                await observed.write_bytes("id", b"1")
            assert telemetry.totals()["sqlsessions.retries"] == 1
    powerless = {"connect_args": {"server_settings": {"role": "pg_monitor"}}}
    async with telemetry.over(SqlSessionStorage(sql_url, engine_options=powerless)) as observed:
        telemetry.spans()
        with pytest.raises(StorageUnavailable):
            await observed.info("id")
    [span] = telemetry.spans()
    assert span.attributes["db.response.status_code"] == span.attributes["error.type"] == "42501"


async def test_a_callers_engine_is_described_like_its_url(telemetry: Telemetry) -> None:
    engine = create_async_engine("postgresql+asyncpg://user:secret@db.example:6432/app", poolclass=NullPool)
    async with telemetry.over(SqlSessionStorage(engine, retry_for=0)) as observed:
        with pytest.raises(StorageUnavailable):
            await observed.info("id")
    [span] = telemetry.spans()
    shown = {name: span.attributes[name] for name in ("db.system.name", "db.namespace", "server.address")}
    assert shown == {"db.system.name": "postgresql", "db.namespace": "app", "server.address": "db.example"}
    assert span.attributes["server.port"] == 6432
    assert "secret" not in span.to_json()
    await engine.dispose()


async def test_starlettes_middleware_takes_an_instrumented_storage(
    create: Create, telemetry: Telemetry
) -> None:
    async with telemetry.over(create()) as observed:
        transport = ASGITransport(app_of(SpyStorage(observed)))
        async with AsyncClient(transport=transport, base_url="https://service") as client:
            assert (await client.get("/put", params={"a": "1"})).is_success
            assert (await client.get("/show")).json() == {"a": "1"}
    assert {"write", "read"} <= {span.attributes["db.operation.name"] for span in telemetry.spans()}


def test_what_cannot_be_instrumented_is_refused(telemetry: Telemetry) -> None:
    observed = telemetry.over(SqlSessionStorage("sqlite://"))
    with pytest.raises(InvalidArgument, match="already"):
        telemetry.over(CacheStorage(observed))
    with pytest.raises(InvalidArgumentType, match="ManagedSessionStorage"):
        telemetry.over("sqlite://")  # type: ignore[arg-type]


@pytest.mark.variant
class TestContract(StorageContract):
    many = 100

    async def create_storage(self, clock: ManualClock) -> ManagedSessionStorage:
        return instrument(SqlSessionStorage("sqlite://", clock=clock))
