"""Whether a history is linearizable: the search of Wing and Gong with Lowe's memory of what was tried.

PyPI has no checker of histories that is kept up (Porcupine is Go's, Knossos and Elle are Clojure's), hence this.

An operation takes effect at one moment between its call and its end. One whose outcome is unknown does so
or never does; and if it never ended, as late as it likes. See Wing and Gong, "Testing and Verifying
Concurrent Objects" (1993), and Lowe, "Testing for linearizability" (2017).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from .model import Inconsistent, Model, Operation, State, components

NEVER = 1 << 80
TRIES: tuple[tuple[int | None, int | None], ...] = ((0, 3_000), (2, 10_000), (None, None))
"""How many operations of unknown outcome may have taken effect, and after how many steps to allow more.

Few of them did, as a rule, so that this finds an order sooner; the last try finds any that there is.
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the search found.

    Attributes:
        kind: linearizable, violation, or undecided if the time was over.
        reason: Why it is a violation.
    """

    kind: Literal["linearizable", "violation", "undecided"]
    reason: str = ""


def check(history: Sequence[Operation], *, seconds: float = 20.0) -> Verdict:
    """Look for an order in which the operations could have had their results one by one.

    Args:
        history: The operations, in any order.
        seconds: When to give up, with "undecided".
    """
    deadline = time.monotonic() + seconds
    undecided = False
    try:
        model = Model(history)
    except Inconsistent as error:
        return Verdict("violation", str(error))
    for part in components(history):
        verdict = _Search(model, part, deadline).run()
        if verdict.kind == "violation":
            return verdict
        undecided = undecided or verdict.kind == "undecided"
    return Verdict("undecided", "the time was over") if undecided else Verdict("linearizable")


@dataclass(frozen=True, slots=True)
class _Entry:
    operation: Operation
    bit: int
    invoked: int
    returned: int
    required: bool
    looks: bool


class _TimeOver(Exception):
    pass


class _Search:
    """One component of a history."""

    def __init__(self, model: Model, part: Sequence[Operation], deadline: float) -> None:
        self._model = model
        self._deadline = deadline
        observed = model.observers(part)
        entries: list[_Entry] = []
        for operation in sorted(part, key=lambda operation: operation.invoked):
            unknown = operation.outcome == "unknown"
            if unknown and operation.looks:
                continue  # no result, no effect
            returned = NEVER if operation.returned is None else operation.returned
            if unknown and operation.token in observed:  # so it did take effect, and before it was seen
                unknown, returned = False, min(returned, observed[operation.token])
            entries.append(
                _Entry(
                    operation, 1 << len(entries), operation.invoked, returned, not unknown, operation.looks
                )
            )
        self._required = [entry for entry in entries if entry.required]
        self._optional = [entry for entry in entries if not entry.required]
        self._goal = sum(entry.bit for entry in self._required)
        self._awaiting: dict[int, int] = {}
        for entry in self._required:
            for token in model.needs(entry.operation):
                self._awaiting[token] = self._awaiting.get(token, 0) | entry.bit
        self._start: State = (0,) * (1 + max((id for entry in part for id in entry.ids), default=0))
        self._deepest: tuple[int, str] = (-1, "")
        self._steps = 0

    def run(self) -> Verdict:
        try:
            for budget, steps in TRIES:
                found, cut = self._within(budget, steps)
                if found:
                    return Verdict("linearizable")
                if not cut:
                    return Verdict("violation", self._deepest[1])
        except _TimeOver:
            return Verdict("undecided")
        raise AssertionError("nothing is cut in the last try")

    def _within(self, budget: int | None, steps: int | None) -> tuple[bool, bool]:
        """Whether there is an order with at most so many unknown ones; whether some orders were not tried."""
        cut = False
        tried: set[tuple[int, State]] = set()
        stack: list[tuple[int, State, int, int]] = [(0, self._start, -1, 0)]
        while stack:
            done, state, latest, used = stack.pop()
            done, latest, candidates = self._look_all(done, state, latest)
            if done & self._goal == self._goal:
                return True, cut
            if (done, state) in tried:
                continue
            tried.add((done, state))
            self._tick()
            if steps is not None and len(tried) > steps:
                return False, True
            following = []
            for entry in candidates:
                after = self._model.apply(entry.operation, state)
                if after is None or (not entry.required and after == state):
                    continue
                if self._missed(done | entry.bit, state, after):
                    continue
                if not entry.required and budget is not None and used >= budget:
                    cut = True
                    continue
                following.append(
                    (done | entry.bit, after, max(latest, entry.invoked), used + (not entry.required))
                )
            self._note(done, state, candidates)
            stack.extend(reversed(following))
        return False, cut

    def _look_all(self, done: int, state: State, latest: int) -> tuple[int, int, list[_Entry]]:
        """Let all that look and can, look: it changes nothing, so earlier is as good as later.

        Unless an unknown one would have to come first, since it ended before the look was called.
        """
        while True:
            candidates = list(self._candidates(done, latest))
            first_end = min((entry.returned for entry in candidates if not entry.required), default=NEVER)
            looking = [
                entry
                for entry in candidates
                if entry.looks
                and entry.invoked <= first_end
                and self._model.apply(entry.operation, state) is not None
            ]
            if not looking:
                return done, latest, candidates
            for entry in looking:
                done |= entry.bit
                latest = max(latest, entry.invoked)

    def _missed(self, done: int, state: State, after: State) -> bool:
        """Whether data is gone, which never comes back, that somebody has still to see."""
        return any(token and token not in after and self._awaiting.get(token, 0) & ~done for token in state)

    def _candidates(self, done: int, latest: int) -> Iterator[_Entry]:
        """What can be next: nothing that is left ended before it was called."""
        first_end = NEVER
        window = []
        for entry in self._required:
            if not done & entry.bit:
                if entry.invoked > first_end:
                    break
                first_end = min(first_end, entry.returned)
                window.append(entry)
        window.sort(key=lambda entry: entry.returned)
        yield from (entry for entry in window if entry.invoked <= first_end)
        for entry in self._optional:
            if not done & entry.bit and entry.invoked <= first_end and latest <= entry.returned:
                yield entry

    def _tick(self) -> None:
        self._steps += 1
        if self._steps % 64 == 0 and time.monotonic() > self._deadline:
            raise _TimeOver

    def _note(self, done: int, state: State, candidates: Sequence[_Entry]) -> None:
        depth = (done & self._goal).bit_count()
        if depth > self._deepest[0]:
            names = [
                f"{entry.operation.kind} of client {entry.operation.client} on {entry.operation.id}"
                for entry in candidates
                if entry.required
            ]
            reason = (
                f"after {depth} of {len(self._required)} with the writes {state}, stuck at: "
                + ", ".join(names)
            )
            self._deepest = (depth, reason)
