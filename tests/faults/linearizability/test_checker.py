"""The checker on histories whose verdict is known, and beside one that tries every order."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from . import checker
from .checker import check
from .model import Inconsistent, Model, Operation, Seen, payload, token_of


def write(token: int, start: int, end: int | None, *, id: int = 0, **more: Any) -> Operation:
    """A write that made a session, or continues that of ``since``."""
    since = more.pop("since", token)
    outcome = more.get("outcome", "ok")
    seen = session(token, since) if outcome == "ok" else None
    return Operation("write", id, start, end, token=token, seen=seen, **more)


def session(token: int, since: int | None = None) -> Seen:
    return Seen(token, 1000 + token, token if since is None else since, token)


def load(token: int, start: int, end: int, *, id: int = 0, since: int | None = None) -> Operation:
    if not token:
        return Operation("load", id, start, end, "absent")
    return Operation("load", id, start, end, seen=session(token, since))


def call(kind: str, start: int, end: int | None, *, id: int = 0, **more: Any) -> Operation:
    return Operation(kind, id, start, end, **more)


def rotate(
    token: int, start: int, end: int | None, *, id: int = 0, new_id: int = 1, **more: Any
) -> Operation:
    return Operation("rotate", id, start, end, new_id=new_id, seen=session(token) if token else None, **more)


UNKNOWN: dict[str, Any] = {"outcome": "unknown"}
CONFLICT: dict[str, Any] = {"outcome": "conflict"}

LINEARIZABLE = {
    "nothing": [],
    "one after the other": [load(0, 0, 1), write(1, 2, 3), load(1, 4, 5), call("invalidate", 6, 7), load(0, 8, 9)],
    "a read beside a write sees the old": [write(1, 0, 1), write(2, 2, 9, since=1), load(1, 3, 4)],
    "a read beside a write sees the new": [write(1, 0, 1), write(2, 2, 9, since=1), load(2, 3, 4, since=1)],
    "of two conditional writes one wins": [
        write(1, 0, 1),
        write(2, 2, 5, if_match=1001, since=1),
        write(3, 2, 5, if_match=1001, **CONFLICT),
    ],
    "an unknown write that is seen later": [write(1, 0, None, **UNKNOWN), load(0, 1, 2), load(1, 3, 4)],
    "an unknown write that never is": [write(1, 0, None, **UNKNOWN), load(0, 1, 2), load(0, 3, 4)],
    "an unknown end between": [write(1, 0, 1), call("invalidate", 2, None, **UNKNOWN), load(1, 3, 4), load(0, 5, 6)],
    "a conflict that an unknown write explains": [write(1, 0, None, **UNKNOWN), write(2, 3, 4, if_match=0, **CONFLICT)],
    "a rotation": [
        write(1, 0, 1), rotate(1, 2, 3), load(0, 4, 5), load(1, 4, 5, id=1), rotate(0, 6, 7, outcome="absent"),
    ],
    "a read beside a rotation": [write(1, 0, 1), rotate(1, 2, 9), load(1, 3, 4), load(1, 5, 6, id=1)],
    "a rotation to a taken id": [write(1, 0, 1), write(2, 0, 1, id=1), rotate(0, 2, 3, **CONFLICT)],
    "an end by key": [write(1, 0, 1), call("end", 2, 3, ended=True), call("end", 4, 5, ended=False)],
    "ended and made anew": [write(1, 0, 1), call("invalidate", 2, 3), write(2, 4, 5), load(2, 6, 7)],
    "at the same nanosecond": [write(1, 0, 5), load(0, 5, 6)],
    "two sessions with one version": [
        write(1, 0, 1), Operation("write", 1, 0, 1, token=2, seen=Seen(2, 1001, 2, 2)),
        write(3, 2, 3, if_match=1001, since=1), write(4, 2, 3, id=1, if_match=1001, since=2),
    ],
}  # fmt: skip

VIOLATIONS = {
    "a stale read": [write(1, 0, 1), write(2, 2, 3, since=1), load(1, 4, 5)],
    "a read that goes back": [
        write(1, 0, 1), write(2, 2, 9, since=1), load(2, 3, 4, since=1), load(1, 5, 6),
    ],
    "a lost write": [write(1, 0, 1), load(0, 2, 3)],
    "a lost update": [
        write(1, 0, 1), write(2, 2, 5, if_match=1001, since=1), write(3, 2, 5, if_match=1001, since=1),
    ],
    "a conflict without a reason": [write(1, 0, 1), write(2, 2, 3, if_match=1001, **CONFLICT)],
    "a session that came back": [
        write(1, 0, 1), call("invalidate", 2, 3), write(2, 4, 5, if_match=1001, since=1),
    ],
    "a session that was not ended": [write(1, 0, 1), call("invalidate", 2, 3), load(1, 4, 5)],
    "an effect twice": [
        write(1, 0, 9), load(1, 1, 2), write(2, 3, 4, since=1), load(2, 5, 6, since=1), load(1, 7, 8),
    ],
    "an unknown effect twice": [
        write(1, 0, None, **UNKNOWN), load(1, 1, 2), write(2, 3, 4, since=1), load(1, 7, 8),
    ],
    "an unknown end twice": [
        write(1, 0, 1), call("invalidate", 2, None, **UNKNOWN), load(0, 3, 4), write(2, 5, 6), load(0, 7, 8),
    ],
    "an end that is only told by the creation": [
        write(1, 0, 1), call("invalidate", 2, 9), write(2, 3, 4), load(0, 5, 6),
    ],
    "an old time of creation after an end": [
        write(1, 0, 1), call("invalidate", 2, 3), write(2, 4, 5, since=1),
    ],
    "a cancelled write after its end": [write(1, 0, 1, **UNKNOWN), load(0, 2, 3), load(1, 4, 5)],
    "neither id during a rotation": [write(1, 0, 1), rotate(1, 2, 9), load(0, 3, 4), load(0, 5, 6, id=1)],
    "both ids during a rotation": [write(1, 0, 1), rotate(1, 2, 9), load(1, 3, 4, id=1), load(1, 5, 6)],
    "both ids after a rotation": [write(1, 0, 1), rotate(1, 2, 3), load(1, 4, 5)],
    "a rotation onto a live session": [write(1, 0, 1), write(2, 0, 1, id=1), rotate(1, 2, 3)],
    "two rotations of one session": [write(1, 0, 1), rotate(1, 2, 5), rotate(1, 2, 5, new_id=2)],
    "two ends of one session": [write(1, 0, 1), call("end", 2, 5, ended=True), call("end", 2, 5, ended=True)],
    "two versions of one write": [write(1, 0, 1), Operation("load", 0, 2, 3, seen=Seen(1, 7, 1, 1))],
    "one version of two writes": [write(1, 0, 1), Operation("write", 0, 2, 3, token=2, seen=Seen(2, 1001, 1, 2))],
    "data that nobody wrote": [load(1, 0, 1)],
}  # fmt: skip


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_finds_an_order(name: str) -> None:
    assert check(LINEARIZABLE[name]).kind == "linearizable"
    assert tries_every_order(LINEARIZABLE[name])


@pytest.mark.parametrize("name", VIOLATIONS)
def test_finds_a_violation(name: str) -> None:
    verdict = check(VIOLATIONS[name])
    assert verdict.kind == "violation"
    assert verdict.reason
    assert not tries_every_order(VIOLATIONS[name])


def test_says_when_the_time_is_over() -> None:
    """A hundred writes side by side, in no order of which the last read is right."""
    writes = [Operation("write", 0, 0, 10, token=token) for token in range(1, 100)]
    assert check([*writes, load(0, 20, 21)], seconds=0.2).kind == "undecided"


def test_sizes_tell_writes_apart() -> None:
    sizes = {len(payload(token, large=large)): token for token in range(1, 2000) for large in (False, True)}
    assert len(sizes) == 2 * 1999
    assert all(token_of(size) == token for size, token in sizes.items())


def tries_every_order(history: Sequence[Operation]) -> bool:
    """The definition, word by word."""
    try:
        model = Model(history)
    except Inconsistent:
        return False
    certain = [operation for operation in history if operation.outcome != "unknown"]
    unknown = [operation for operation in history if operation.outcome == "unknown"]
    for count in range(len(unknown) + 1):
        for chosen in itertools.combinations(unknown, count):
            for order in itertools.permutations([*certain, *chosen]):
                if in_time(order) and sequential(model, order):
                    return True
    return False


def in_time(order: Sequence[Operation]) -> bool:
    return not any(
        later.returned is not None and later.returned < earlier.invoked
        for earlier, later in itertools.combinations(order, 2)
    )


def sequential(model: Model, order: Sequence[Operation]) -> bool:
    state: tuple[int, ...] | None = (0, 0, 0)
    for operation in order:
        if state is None:
            return False
        state = model.apply(operation, state)
    return state is not None


@st.composite
def histories(draw: st.DrawFn) -> list[Operation]:
    """Short histories that happened, but for one result that may have been changed."""
    number = draw(st.integers(2, 6))
    state: dict[int, Seen] = {}
    versions = [0]
    history: list[Operation] = []
    more: dict[str, Any]
    for index in range(number):
        kind = draw(st.sampled_from(["load", "write", "write", "invalidate", "end", "rotate"]))
        id, moment = draw(st.integers(0, 1)), 10 * index
        start, end = moment - draw(st.integers(0, 25)), moment + draw(st.integers(0, 25))
        outcome, more, here = "ok", {}, state.get(id)
        lost = draw(st.integers(0, 3)) == 0
        effect = not lost or draw(st.booleans())
        if kind == "load":
            outcome, more = ("ok", {"seen": here}) if here else ("absent", {})
        elif kind == "write":
            if_match = draw(st.sampled_from([None, None, *versions]))
            seen = session(index + 1, here and here.created)
            more = {"token": index + 1, "if_match": if_match, "seen": seen}
            if if_match is not None and if_match != (here.version if here else 0):
                outcome = "conflict"
                del more["seen"]
            elif effect:
                state[id] = seen
                versions.append(seen.version)
        elif kind == "rotate":
            more = {"new_id": 1 - id}
            if here is None or state.get(1 - id):
                outcome = "conflict" if here else "absent"
            else:
                more["seen"] = here
                if effect:
                    state[1 - id] = state.pop(id)
        else:
            more = {"ended": here is not None} if kind == "end" else {}
            if effect:
                state.pop(id, None)
        if lost:
            outcome = "unknown"
            more.pop("seen", None)
            more.pop("ended", None)
        never_ended = lost and draw(st.booleans())
        history.append(Operation(kind, id, start, None if never_ended else end, outcome, **more))
    if draw(st.booleans()):
        place = draw(st.integers(0, number - 1))
        claimed = draw(st.sampled_from([None, *(operation.seen for operation in history)]))
        old = history[place]
        history[place] = Operation(
            "load", old.id, old.invoked, old.returned or 90, "ok" if claimed else "absent", seen=claimed
        )
    return history


@settings(max_examples=400, deadline=None)
@given(histories())
def test_agrees_with_trying_every_order(history: list[Operation]) -> None:
    assert (check(history).kind == "linearizable") == tries_every_order(history)


@settings(max_examples=100, deadline=None)
@given(histories())
def test_agrees_whatever_is_tried_first(history: list[Operation]) -> None:
    found = check(history).kind
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checker, "TRIES", ((0, 2), (1, None), (None, None)))
        assert check(history).kind == found
