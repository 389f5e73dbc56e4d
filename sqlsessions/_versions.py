"""Versions of sessions: each write has its own.

Times here are integer microseconds since 1970 UTC.
"""

from __future__ import annotations

import random
from threading import Lock
from weakref import WeakKeyDictionary

from .records import Clock

_RANDOM_BITS = 21  # 42 bits of milliseconds above them last until the year 2109
_MAX_VERSION = (1 << 63) - 1


class Versions:
    """Generates versions: milliseconds in the high bits, random low bits, always increasing."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = Lock()

    @classmethod
    def of(cls, clock: Clock) -> Versions:
        """The generator that all storages of this process with this clock share."""
        try:
            return _versions.setdefault(clock, cls())
        except TypeError:  # not every callable can be a weak key
            return cls()

    def next(self, now: int) -> int:
        """The version of a write at this time."""
        first = now // 1000 << _RANDOM_BITS
        with self._lock:
            if self._last < first:  # from the lower half, so that thousands fit into a millisecond
                self._last = first + random.getrandbits(_RANDOM_BITS - 1)
            else:
                self._last += 1 + random.getrandbits(8)
            return self._last


_versions: WeakKeyDictionary[Clock, Versions] = WeakKeyDictionary()


def version_time(version: int) -> int:
    """The time at which a version was generated, to the millisecond."""
    return (version >> _RANDOM_BITS) * 1000


def first_version(time: int) -> int:
    """The smallest version that can be generated at a time."""
    return min(time // 1000 << _RANDOM_BITS, _MAX_VERSION)
