"""The span and the duration of one operation."""

from __future__ import annotations

import asyncio
import time
from types import TracebackType
from typing import Any, Self

from opentelemetry import context
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from ...errors import SessionConflict
from .instruments import Instruments
from .source import HIT, MISS, OUTCOME, Source


class Operation:
    """A context manager that ends a span and records its duration.

    A class and not a generator, since it is entered for every operation.

    Args:
        instruments: Where the duration is recorded.
        source: The storage.
        span: The span, which has started.
        name: The name of the operation.
        current: Whether the span is the parent of spans that start meanwhile.
    """

    __slots__ = (
        "_current",
        "_instruments",
        "_name",
        "_outcome",
        "_size",
        "_source",
        "_span",
        "_start",
        "_token",
    )

    def __init__(
        self, instruments: Instruments, source: Source, span: Span, name: str, *, current: bool
    ) -> None:
        self._instruments = instruments
        self._source = source
        self._span = span
        self._name = name
        self._current = current
        self._outcome: str | None = None
        self._size: int | None = None

    def __enter__(self) -> Self:
        self._token = context.attach(set_span_in_context(self._span)) if self._current else None
        self._start = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        duration = time.perf_counter() - self._start
        attributes = self._source.of(self._name)
        failure: dict[str, Any] = {}
        # A miss is a result, not a failure; so is a listing that its user did not read to the end.
        if error is not None and self._outcome != MISS and not isinstance(error, GeneratorExit):
            failure = self._source.failure(error)
            # A cancellation is the caller's decision, and no error of the operation.
            if not isinstance(error, asyncio.CancelledError):
                self._span.set_status(Status(StatusCode.ERROR))
            if isinstance(error, SessionConflict):
                self._instruments.conflicts.add(1, attributes)
        self._instruments.duration.record(duration, attributes | failure if failure else attributes)
        if self._span.is_recording():
            self._span.set_attributes(self._seen() | failure)
        self._span.end()
        if self._token is not None:
            context.detach(self._token)

    def found(self, *, yes: bool) -> None:
        """Record whether the id had a live session."""
        self._outcome = HIT if yes else MISS
        self._instruments.lookups.add(1, self._source.of(self._name, self._outcome))

    def size(self, size: int) -> None:
        """Record the size of the session's data, in bytes."""
        self._size = size

    def _seen(self) -> dict[str, Any]:
        seen = {OUTCOME: self._outcome, "sqlsessions.session.size": self._size}
        return {name: value for name, value in seen.items() if value is not None}
