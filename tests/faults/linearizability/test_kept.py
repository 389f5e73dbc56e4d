"""Histories that were kept get the verdict that they got."""

from __future__ import annotations

from pathlib import Path

import pytest

from .checker import check
from .history import KEPT, History, kept
from .model import Operation, Seen
from .shrink import shrink
from .test_checker import VIOLATIONS

FILES = sorted(KEPT.glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_gets_its_verdict(path: Path) -> None:
    verdict, operations = kept(path)
    if verdict == "undecided":
        pytest.skip("nobody knows its verdict")
    assert check(operations).kind == verdict


def test_some_are_kept_of_either_kind() -> None:
    assert {kept(path)[0] for path in FILES} == {"linearizable", "violation"}


def test_what_is_saved_can_be_read(tmp_path: Path) -> None:
    operations = [
        Operation("write", 0, 5, 6, token=1, if_match=0, seen=Seen(1, 2, 3, 4), client=7),
        Operation("rotate", 0, 7, None, "unknown", new_id=1),
        Operation("end", 1, 8, 9, ended=False),
    ]
    History(operations).save(tmp_path / "one.json", "violation", "why")
    verdict, read = kept(tmp_path / "one.json")
    assert verdict == "violation"
    assert [operation.invoked for operation in read] == [0, 2, 3]
    assert read[0].seen == operations[0].seen
    assert read[1].returned is None


def test_a_call_that_never_ended_is_unknown() -> None:
    events = [
        {"client": 1, "index": 0, "kind": "invalidate", "id": 0, "invoked": 1},
        {"client": 2, "index": 0, "kind": "invalidate", "id": 0, "invoked": 1},
        {"client": 2, "index": 0, "outcome": "cancelled", "returned": 5},
    ]
    ends = [
        Operation("invalidate", 0, 1, end, "unknown", client=client) for client, end in ((1, None), (2, 5))
    ]
    assert History.of([dict(event) for event in events], cancelled_end=True).operations == ends
    never = History.of([dict(event) for event in events], cancelled_end=False)
    assert [operation.returned for operation in never.operations] == [None, None]


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_smaller_violation_is_one(name: str) -> None:
    smaller = shrink(VIOLATIONS[name])
    assert check(smaller).kind == "violation"
    assert len(smaller) <= len(VIOLATIONS[name])
