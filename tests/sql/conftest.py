"""Fixtures of the tests of the SQL storage."""

import pytest

from sqlsessions.testing import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
