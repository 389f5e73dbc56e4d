"""A ledger of what callers were told, to hold the database to it.

A slot is one session, and who owns it: one call at a time changes it. Its data say whose they are, and
since which call; rotated, it goes on under the id of its next generation. The ledger knows at any time what
the session may be: after an acknowledged call one thing, after one that nobody knows the outcome of
either of two, after one that failed what it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from sqlsessions import ManagedSessionStorage, SessionCorrupt

HEADER = struct.Struct(">4sHQQ16s")
MAGIC = b"SLOT"
LOADS_AT_ONCE = 100

Outcome = Literal["acknowledged", "unknown", "failed"]
Violation = Literal["lost", "torn", "resurrected", "trace", "stray"]
VIOLATIONS: tuple[Violation, ...] = ("lost", "torn", "resurrected", "trace", "stray")


class State(NamedTuple):
    """What a session is: the generation of its id, and the call that wrote its data."""

    generation: int
    sequence: int


class TornError(Exception):
    """Data that no call has written."""


def payload(slot: str, sequence: int, size: int) -> bytes:
    """Data that can be checked, with a body of some size."""
    name = slot.encode()
    body = random.Random(f"{slot} {sequence}").randbytes(size)
    return HEADER.pack(MAGIC, len(name), sequence, size, _checksum(name, sequence, body)) + name + body


def parse(data: bytes) -> tuple[str, int]:
    """Whose data these are, and since which call.

    Raises:
        TornError: If they are not whole.
    """
    if len(data) < HEADER.size:
        raise TornError(f"{len(data)} bytes are too few")
    magic, length, sequence, size, checksum = HEADER.unpack_from(data)
    name, body = data[HEADER.size : HEADER.size + length], data[HEADER.size + length :]
    if magic != MAGIC or len(body) != size or checksum != _checksum(name, sequence, body):
        raise TornError(f"{len(data)} bytes, of which {size} should be the body, are not what was written")
    return name.decode(), sequence


def _checksum(name: bytes, sequence: int, body: bytes) -> bytes:
    return hashlib.blake2b(b"%s %d " % (name, sequence) + body, digest_size=16).digest()


def session_id(slot: str, generation: int) -> str:
    """The id of a slot's session."""
    return f"{slot}/{generation}"


@dataclass
class Slot:
    """What is known of a session.

    Attributes:
        possible: What it may be; None is that there is none.
        pending: What the call that is under way makes of it.
        generation: The last one that a call was to give it.
        failed: What calls that failed would have made of it.
    """

    name: str
    possible: set[State | None] = field(default_factory=lambda: {None})
    pending: tuple[State | None] | None = None
    generation: int = 0
    sequence: int = 0
    failed: set[State | None] = field(default_factory=set)

    @property
    def current(self) -> int:
        """The generation that its session has, or would have."""
        return max((state.generation for state in self.possible if state), default=self.generation)

    def judged(self, states: list[State]) -> Violation | None:
        """What is wrong with what a database holds of it."""
        if len(states) > 1:
            return "resurrected"  # under an id that it no longer has
        state = states[0] if states else None
        if state in self.possible:
            return None
        if state is None:
            return "lost"
        if state in self.failed:
            return "trace"
        alive = [one for one in self.possible if one is not None]
        if not alive or all(state.generation < one.generation for one in alive):
            return "resurrected"
        return "lost" if all(state.sequence < one.sequence for one in alive) else "stray"


def named(error: BaseException | str) -> str:
    """An error, and what caused it, by name."""
    if isinstance(error, str):
        return error
    cause = error.__cause__
    return type(error).__name__ + (f"({type(cause).__name__})" if cause is not None else "")


class Ledger:
    """What callers were told.

    Args:
        tell: Gets every event as a line, from which `note` of another ledger learns it.

    Attributes:
        acknowledged: How many calls were acknowledged.
        errors: What callers saw, by the names of the errors.
        violations: What was found wrong, by kind.
    """

    def __init__(self, tell: Callable[[str], None] | None = None) -> None:
        self._tell = tell or (lambda _line: None)
        self.slots: dict[str, Slot] = {}
        self._by_key: dict[str, tuple[str, int]] = {}
        self.acknowledged = 0
        self.errors: Counter[str] = Counter()
        self.violations: Counter[str] = Counter()
        self.details: list[str] = []

    def slot(self, name: str) -> Slot:
        """A slot, which is made if it is new."""
        if name not in self.slots:
            self.slots[name] = Slot(name)
            self._known(name, 0)
        return self.slots[name]

    def begin(self, name: str, becomes: State | None) -> None:
        """A call begins that makes something of a session."""
        slot = self.slot(name)
        assert slot.pending is None, f"two calls on {name} at once"
        slot.pending = (becomes,)
        if becomes is not None:
            slot.sequence = max(slot.sequence, becomes.sequence)
            if becomes.generation > slot.generation:
                slot.generation = becomes.generation
                self._known(name, becomes.generation)
        self._tell("begin {} {} {}".format(name, *(becomes or ("-", "-"))))

    def end(self, name: str, outcome: Outcome, error: BaseException | str | None = None) -> None:
        """It has ended."""
        slot = self.slot(name)
        assert slot.pending is not None
        [becomes], slot.pending = slot.pending, None
        if outcome == "acknowledged":
            self.acknowledged += 1
            slot.possible = {becomes}
            slot.failed.clear()
        elif outcome == "unknown":
            slot.possible.add(becomes)
        elif becomes not in slot.possible:
            slot.failed.add(becomes)
        told = "-" if error is None else named(error)
        if told != "-":
            self.errors[told] += 1
        self._tell(f"end {name} {outcome} {told}")

    def read(self, name: str, generation: int, data: bytes | None) -> None:
        """The owner, who has no call under way, read this."""
        try:
            states = [] if data is None else [State(generation, self._sequence(name, data))]
        except TornError as error:
            self.found("torn", f"{name} was read: {error}")
            return
        if violation := self.slot(name).judged(states):
            possible = self.slot(name).possible
            self.found(violation, f"{name} was read as {states}, which should be one of {possible}")

    def found(self, violation: str, detail: str) -> None:
        """Something is wrong."""
        self.violations[violation] += 1
        self.details.append(f"{violation}: {detail}")
        self._tell(f"found {violation} {detail}")

    def saw(self, error: BaseException | str) -> None:
        """Somebody who does not own a slot saw an error."""
        self.errors[named(error)] += 1
        self._tell(f"saw {named(error)}")

    def note(self, line: str) -> None:
        """Take an event that another ledger told of."""
        kind, _, rest = line.partition(" ")
        if kind == "begin":
            name, generation, sequence = rest.split()
            self.begin(name, None if generation == "-" else State(int(generation), int(sequence)))
        elif kind == "end":
            name, outcome, error = rest.split()
            self.end(name, outcome, error)  # type: ignore[arg-type]
        elif kind == "found":
            self.found(*rest.split(" ", 1))
        elif kind == "saw":
            self.saw(rest)
        else:
            raise ValueError(f"no event: {line!r}")

    def died(self) -> None:
        """Whoever made the calls is dead: nobody knows of those under way."""
        for slot in self.slots.values():
            if slot.pending is not None:
                self.end(slot.name, "unknown")

    def _known(self, name: str, generation: int) -> None:
        key = hashlib.sha256(session_id(name, generation).encode()).hexdigest()
        self._by_key[key] = (name, generation)

    @staticmethod
    def _sequence(name: str, data: bytes) -> int:
        owner, sequence = parse(data)
        if owner != name:
            raise TornError("it holds the data of another session")
        return sequence

    async def verify(self, storage: ManagedSessionStorage) -> None:
        """Look at every session that there is, while nobody writes; what it is then, it must stay."""
        held: dict[str, list[State]] = {name: [] for name in self.slots}
        at_once = asyncio.Semaphore(LOADS_AT_ONCE)

        async def look(key: str, size: int) -> None:
            if key not in self._by_key:
                self.found("stray", "there is a session that nobody wrote")
                return
            name, generation = self._by_key[key]
            try:
                async with at_once:
                    snapshot = await storage.load(session_id(name, generation))
                data = b"" if snapshot is None else snapshot.data
                held[name].append(State(generation, self._sequence(name, data)))
            except (TornError, SessionCorrupt) as error:
                self.found("torn", f"{name}: {error}")
                held.pop(name, None)
                return
            if len(data) != size:
                self.found("torn", f"{name} is not of the size that the list says")

        listed = [(info.key, info.size) async for info in storage.sessions()]
        await asyncio.gather(*(look(key, size) for key, size in listed))
        for name, states in held.items():
            slot = self.slots[name]
            assert slot.pending is None, "verify once the calls have ended, or call died()"
            if violation := slot.judged(states):
                self.found(violation, f"{name} is {states}, which should be one of {slot.possible}")
            slot.possible = {states[0] if states else None}
            slot.failed.clear()
