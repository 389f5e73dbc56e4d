"""What a storage does one call at a time, and whether calls that were made could have had their results.

Every write has data of its own, whose size alone tells which write it was. So a result shows which
write is there, and a version or a time of creation belongs to just one write of its session. Two processes
may give two sessions one version: it is two million to one that they do in one millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

State = tuple[int, ...]
"""For each id, the number of the write whose data is there; 0 is no session."""

LOOKS = frozenset({"load", "read", "info", "touch"})
INLINE_LIMIT, LARGE = 2100, 4200
"""Sessions of more than the first are chunked; a large write has the second and its own number of bytes."""
MAX_WRITES = INLINE_LIMIT - 16


def payload(token: int, *, large: bool) -> bytes:
    """The data of a write, which nothing else writes."""
    size = (LARGE if large else 16) + token
    piece = b"%d " % token
    return (piece * (size // len(piece) + 1))[:size]


def token_of(size: int) -> int:
    """The write whose data has this size."""
    return size - (LARGE if size >= LARGE else 16)


class Seen(NamedTuple):
    """A session in a result: which write, and what belongs to that (times in microseconds)."""

    token: int
    version: int
    created: int
    updated: int


@dataclass(frozen=True, slots=True)
class Operation:
    """A call of a client, and what became of it.

    Attributes:
        kind: load, read, info, touch, write, invalidate, end (which is `invalidate_key`) or rotate.
        id: The number of the session id.
        invoked: When it was called, in nanoseconds.
        returned: When it ended; None is never: it may take effect at any later time.
        outcome: ok, absent, conflict; or unknown: it may have taken effect, or not.
        token: The number of the write.
        if_match: Its condition.
        new_id: The new id of a rotation.
        seen: The session in the result.
        ended: Whether `invalidate_key` ended a session.
        client: Whose call it was.
    """

    kind: str
    id: int
    invoked: int
    returned: int | None
    outcome: str = "ok"
    token: int | None = None
    if_match: int | None = None
    new_id: int | None = None
    seen: Seen | None = None
    ended: bool | None = None
    client: int = 0

    @property
    def looks(self) -> bool:
        """Whether it changes nothing, whenever it takes effect."""
        return self.kind in LOOKS or self.outcome in ("absent", "conflict") or self.ended is False

    @property
    def ids(self) -> tuple[int, ...]:
        """The sessions that its result depends on, or that it changes."""
        both = self.new_id is not None and self.outcome != "absent"
        return (self.id, self.new_id) if both and self.new_id is not None else (self.id,)

    def to_json(self) -> dict[str, Any]:
        """Without what is not there."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, given: dict[str, Any]) -> Operation:
        """Of what `to_json` gave."""
        seen = given.get("seen")
        return cls(**{"returned": None} | given | {"seen": None if seen is None else Seen(*seen)})


class Inconsistent(Exception):
    """Results that contradict each other in whatever order."""


class Model:
    """Sequential sessions, with what the results of a history tell about its writes.

    Args:
        history: The operations.

    Raises:
        Inconsistent: If one write was seen with two versions or times, two writes to one id with one
            version, or data that nobody wrote.
    """

    def __init__(self, history: Sequence[Operation]) -> None:
        writes = {operation.token: operation.id for operation in history if operation.kind == "write"}
        self.facts: dict[int, Seen] = {}
        self.tokens: dict[int, set[int]] = {0: {0}}
        for operation in history:
            if (seen := operation.seen) is None:
                continue
            if seen.token not in writes:
                raise Inconsistent("a session was seen that nobody wrote")
            if self.facts.setdefault(seen.token, seen) != seen:
                raise Inconsistent(f"write {seen.token} was seen with two versions or times")
            others = self.tokens.setdefault(seen.version, set()) - {seen.token}
            if other := next((one for one in others if writes[one] == writes[seen.token]), None):
                raise Inconsistent(f"writes {seen.token} and {other} of one session have one version")
            self.tokens[seen.version].add(seen.token)

    def apply(self, operation: Operation, state: State) -> State | None:
        """The state after an operation takes effect; None if that could not give its result."""
        here = state[operation.id]
        if operation.kind in LOOKS:
            return state if here == (operation.seen.token if operation.seen else 0) else None
        if operation.kind == "write":
            return self._write(operation, state)
        if operation.kind == "rotate":
            return _rotate(operation, state)
        assert operation.kind in ("invalidate", "end"), operation.kind
        wrong = operation.ended is not None and operation.ended != bool(here)
        return None if wrong else _with(state, operation.id, 0)

    def _write(self, operation: Operation, state: State) -> State | None:
        here, token, if_match = state[operation.id], operation.token, operation.if_match
        holds = if_match is None or here in self.tokens.get(if_match, ())
        if operation.outcome == "conflict":
            return None if holds else state
        if not holds or token is None:
            return None
        if facts := self.facts.get(token):
            if not here and facts.created != facts.updated:
                return None  # it continued a session, says its time of creation
            if (before := self.facts.get(here)) and before.created != facts.created:
                return None  # it did not continue this one
        return _with(state, operation.id, token)

    def needs(self, operation: Operation) -> list[int]:
        """The writes whose data must be there for an operation to have its result."""
        if operation.outcome != "ok":
            return []
        if operation.kind == "write":
            if not operation.if_match:
                return []
            met = self.tokens.get(operation.if_match, {-1})
            return list(met) if len(met) == 1 else []  # of two, it is not known which
        return [operation.seen.token] if operation.seen else []

    def observers(self, history: Sequence[Operation]) -> dict[int, int]:
        """For each write that was seen, when the first call that saw it ended."""
        ends: dict[int, int] = {}
        for operation in history:
            if operation.returned is not None:
                for token in self.needs(operation):
                    ends[token] = min(operation.returned, ends.get(token, operation.returned))
        return ends


def _rotate(operation: Operation, state: State) -> State | None:
    here, outcome = state[operation.id], operation.outcome
    assert operation.new_id is not None
    if outcome == "absent" or not here:
        return state if outcome == "absent" and not here else None
    if outcome == "conflict" or state[operation.new_id]:
        return state if outcome == "conflict" and state[operation.new_id] else None
    if operation.seen and operation.seen.token != here:
        return None
    return _with(_with(state, operation.id, 0), operation.new_id, here)


def _with(state: State, id: int, token: int) -> State:
    return (*state[:id], token, *state[id + 1 :])


def components(history: Sequence[Operation]) -> list[list[Operation]]:
    """The history of each group of ids that rotations connect: they can be checked one by one."""
    group = {id: id for operation in history for id in operation.ids}
    for operation in history:
        first, *others = operation.ids
        for other in others:
            old, new = group[other], group[first]
            group = {id: new if root == old else root for id, root in group.items()}
    parts: dict[int, list[Operation]] = {}
    for operation in history:
        parts.setdefault(group[operation.id], []).append(operation)
    return list(parts.values())
