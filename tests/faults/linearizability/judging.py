"""Records and judges many histories, and keeps those that fail."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from .checker import Verdict, check
from .history import KEPT, History
from .model import Operation
from .recorder import Plan, Recorder


@dataclass
class Findings:
    """What came out.

    Attributes:
        histories: How many were recorded.
        operations: Calls in them.
        outcomes: How many calls of each kind had which outcome.
        unknown: Calls that may have changed something, or not.
        verdicts: How many histories got which.
        errors: What no call should have raised, and how often.
        faults: How many there were.
        reads: How caches answered; of killed processes it is not known.
        kept: Files of the histories that failed.
        seconds: Time spent.
    """

    histories: int = 0
    operations: int = 0
    unknown: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    faults: dict[str, int] = field(default_factory=dict)
    reads: Counter[str] = field(default_factory=Counter)
    kept: list[Path] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def clean(self) -> bool:
        """Whether every history is linearizable, and no call raised what it should not."""
        return self.histories > 0 and self.verdicts["linearizable"] == self.histories and not self.errors

    def __str__(self) -> str:
        faults = ", ".join(f"{count} x {fault}" for fault, count in sorted(self.faults.items()) if count)
        counts = f"{self.histories} histories, {self.operations} operations, {self.unknown} unknown, "
        counts += f"{self.verdicts['undecided']} undecided, {self.verdicts['violation']} violations"
        lines = [f"{counts} in {self.seconds:.0f} s; faults: {faults or 'none counted'}"]
        if self.reads:
            lines.append(
                "  reads: " + ", ".join(f"{count} {how}" for how, count in sorted(self.reads.items()))
            )
        lines += [f"  {reason}" for reason in self.reasons]
        lines += [f"  unexpected, {count} times: {error}" for error, count in self.errors.items()]
        lines += [f"  kept as {path}" for path in self.kept]
        return "\n".join(lines)

    def add(self, history: History, verdict: Verdict, keep_in: Path, name: str) -> None:
        self.histories += 1
        self.operations += len(history.operations)
        self.unknown += history.unknown
        self.outcomes.update(f"{operation.kind} {operation.outcome}" for operation in history.operations)
        self.verdicts[verdict.kind] += 1
        self.errors.update(history.errors)
        if verdict.kind != "linearizable" or history.errors:
            path = keep_in / f"{name}.json"
            history.save(path, verdict.kind, verdict.reason)
            self.kept.append(path)
            self.reasons.append(f"{verdict.kind}: {verdict.reason}" if verdict.reason else verdict.kind)


async def judge(
    plan: Plan,
    *,
    histories: int | None = None,
    operations: int | None = None,
    seconds: float | None = None,
    keep_in: Path = KEPT,
    name: str = "found",
    patience: float = 30.0,
) -> Findings:
    """Record histories and judge them while the next ones are recorded.

    Args:
        plan: What to record.
        histories: How many at least; None is as many as the other limits allow.
        operations: How many calls at least, in all histories; None is the same.
        seconds: When to stop; None is when there are enough.
        keep_in: Where to write those that fail.
        name: How their files begin.
        patience: Seconds for one verdict.
    """
    findings = Findings()
    began = time.monotonic()
    loop = asyncio.get_running_loop()
    judged: list[tuple[History, asyncio.Future[Verdict]]] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as judges:
        async with Recorder.open(plan) as recorder:
            index = recorded = 0
            while (
                (histories is None or len(judged) < histories)
                and (operations is None or recorded < operations)
                and (seconds is None or time.monotonic() - began < seconds)
            ):
                for history in await recorder.record(index):
                    recorded += len(history.operations)
                    judged.append(
                        (history, loop.run_in_executor(judges, _check, relaxed(history, plan), patience))
                    )
                index += 1
            findings.faults, findings.reads = recorder.faults, recorder.reads
        for number, (history, verdict) in enumerate(judged):
            findings.add(history, await verdict, keep_in, f"{name}-{plan.seed}-{number}")
    findings.seconds = time.monotonic() - began
    return findings


def relaxed(history: History, plan: Plan) -> Sequence[Operation]:
    """The operations, where a look may show what was there up to so long before it was called."""
    earlier = round(plan.staleness * 1e9)
    if not earlier:
        return history.operations
    return [
        replace(operation, invoked=operation.invoked - earlier) if operation.looks else operation
        for operation in history.operations
    ]


def _check(operations: Sequence[Operation], seconds: float) -> Verdict:
    return check(operations, seconds=seconds)
