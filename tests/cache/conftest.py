"""Fixtures of the tests of the cache."""

import pytest

from sqlsessions import CacheStorage
from sqlsessions.testing import ManualClock

from .support import Recorder


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def delegate(clock: ManualClock) -> Recorder:
    return Recorder(clock=clock)


@pytest.fixture
def cache(delegate: Recorder) -> CacheStorage:
    return CacheStorage(delegate)
