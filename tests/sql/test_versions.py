"""Versions: a counter above the token of the writer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sqlsessions._versions import new_version, next_version, token_of

versions = st.integers(1, (1 << 63) - 1)


@given(versions, versions, st.integers(1, 1000))
def test_the_next_one_has_the_token_of_its_writer(before: int, version: int, steps: int) -> None:
    """Also at the top of the range, where the counter cannot grow any more."""
    following = next_version(before, version, steps=steps)
    assert token_of(following) == token_of(version)
    assert 0 <= following < 1 << 63
    assert following > before or before >= (1 << 63) - (1 << 32)


def test_a_new_one_leaves_room_above() -> None:
    assert all(0 < new_version() < 1 << 61 for _ in range(1000))
