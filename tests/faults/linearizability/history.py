"""Histories: from the events of clients, and as files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .model import Operation, Seen

KEPT = Path(__file__).parent / "histories"
"""Histories that tests replay, each with its verdict."""


@dataclass
class History:
    """What the clients of one run did.

    Attributes:
        operations: Their calls.
        errors: What no call should have raised.
        note: Where it comes from.
    """

    operations: list[Operation]
    errors: list[str] = field(default_factory=list)
    note: str = ""

    @property
    def unknown(self) -> int:
        """How many calls may have changed something, or not."""
        return sum(operation.outcome == "unknown" and not operation.looks for operation in self.operations)

    @classmethod
    def of(cls, events: Iterable[dict[str, Any]], *, cancelled_end: bool, note: str = "") -> History:
        """The calls in the events, in any order.

        Args:
            events: What clients told.
            cancelled_end: Whether a cancelled call takes effect before it ends or never, as it should where
                no connection is lost.
            note: Where they come from.
        """
        calls: dict[tuple[int, int], dict[str, Any]] = {}
        for event in events:
            calls.setdefault((event.pop("client"), event.pop("index")), {}).update(event)
        history = cls([], note=note)
        for (client, _), call in sorted(calls.items()):
            outcome = call.pop("outcome", "unknown")  # its process was killed
            returned = call.pop("returned", None)
            if error := call.pop("error", None):
                history.errors.append(f"{call['kind']}: {error}")
            ends = outcome != "unknown" and (outcome != "cancelled" or cancelled_end)
            seen = call.pop("seen", None)
            history.operations.append(
                Operation(
                    **call,
                    client=client,
                    outcome="unknown" if outcome == "cancelled" else outcome,
                    returned=returned if ends else None,
                    seen=seen and Seen(*seen),
                )
            )
        return history

    def save(self, path: Path, verdict: str, reason: str) -> None:
        """Write a file that `kept` reads."""
        path.parent.mkdir(parents=True, exist_ok=True)
        start = min(operation.invoked for operation in self.operations)
        rows = []
        for operation in sorted(self.operations, key=lambda operation: operation.invoked):
            row = operation.to_json()
            row["invoked"] -= start
            if "returned" in row:
                row["returned"] -= start
            rows.append(json.dumps(row))
        head = json.dumps({"verdict": verdict, "reason": reason, "note": self.note, "errors": self.errors})
        path.write_text(f'{head[:-1]}, "operations": [\n' + ",\n".join(rows) + "\n]}\n")


def kept(path: Path) -> tuple[str, Sequence[Operation]]:
    """The verdict that a kept history must get, and its operations."""
    given = json.loads(path.read_text())
    return given["verdict"], [Operation.from_json(row) for row in given["operations"]]
