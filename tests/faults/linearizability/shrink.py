"""Makes a history that is a violation as small as it can be: `python -m tests.faults.linearizability.shrink FILE`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .checker import check
from .history import kept
from .model import Operation, components

SECONDS = 5.0


def wrong(history: Sequence[Operation]) -> bool:
    return check(history, seconds=SECONDS).kind == "violation"


def shrink(history: Sequence[Operation]) -> list[Operation]:
    """A smaller history that cannot be linearized either, which proves that the given one cannot.

    What is left out is what happened later, then ids of no matter, then what only looked.
    """
    smaller = sorted(history, key=lambda operation: operation.invoked)
    moments = sorted(operation.returned for operation in smaller if operation.returned is not None)
    low, high = 0, len(moments) - 1
    while low < high:
        middle = (low + high) // 2
        if wrong(until(smaller, moments[middle])):
            high = middle
        else:
            low = middle + 1
    if wrong(shorter := until(smaller, moments[low])):
        smaller = shorter
    smaller = next((part for part in components(smaller) if wrong(part)), smaller)
    for operation in list(smaller):
        without = [other for other in smaller if other is not operation]
        if (operation.looks or (operation.outcome == "unknown" and not seen(operation, without))) and wrong(
            without
        ):
            smaller = without
    return sorted(smaller, key=lambda operation: operation.invoked)


def seen(operation: Operation, others: Sequence[Operation]) -> bool:
    """Whether others show that an unknown operation took effect; an end or rotation might always have."""
    return operation.kind != "write" or any(
        other.seen and other.seen.token == operation.token for other in others
    )


def until(history: Sequence[Operation], moment: int) -> list[Operation]:
    """What had happened by then."""
    return [
        operation
        if operation.returned is not None and operation.returned <= moment
        else replace(operation, returned=None, outcome="unknown", seen=None, ended=None)
        for operation in history
        if operation.invoked <= moment
    ]


def main() -> None:
    _, history = kept(Path(sys.argv[1]))
    start = min(operation.invoked for operation in history)
    for operation in shrink(history):
        end = "never" if operation.returned is None else f"{(operation.returned - start) / 1e6:9.3f}"
        shown = {
            name: value
            for name, value in operation.to_json().items()
            if name not in ("invoked", "returned", "kind", "id", "client")
        }
        sys.stdout.write(
            f"{(operation.invoked - start) / 1e6:9.3f} {end:>9} client {operation.client:2} "
            f"{operation.kind} {operation.id} {shown}\n"
        )


if __name__ == "__main__":
    main()
