"""Replays what the fuzzers found: the inputs that reached new code, and those that failed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from .targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus(name: str) -> None:
    inputs = sorted((CORPUS / name).iterdir())
    assert len(inputs) > 5
    for each in inputs:
        try:
            TARGETS[name](each.read_bytes())
        except Exception as error:
            raise AssertionError(f"{each.name} fails") from error
