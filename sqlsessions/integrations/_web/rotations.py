"""Sessions whose ids this process changed recently."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from ...records import Clock

KEPT = 60.0  # seconds, longer than requests with the old id should take
MOST = 10_000


class Rotations:
    """Maps old ids to the keys of their sessions for a minute after a rotation.

    The database must not be able to lead from an old id to the new one. With this, a concurrent request
    with the old id does not clear the new cookie, and its logout ends the session.

    Args:
        clock: Gives the time in seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._successors: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._lock = Lock()

    def add(self, old: bytes, key: str) -> None:
        """Note that a session got a new id.

        Args:
            old: Digest of the old id.
            key: `SessionInfo.key` of the session under the new one.
        """
        now = self._clock()
        with self._lock:
            self._successors[old] = key, now + KEPT
            while len(self._successors) > MOST or next(iter(self._successors.values()))[1] <= now:
                self._successors.popitem(last=False)

    def successor(self, old: bytes) -> str | None:
        """The key of the session that had an id; None if it was not rotated recently."""
        now = self._clock()
        with self._lock:
            key = None
            while (found := self._successors.get(old)) is not None and found[1] > now:
                key = found[0]
                old = bytes.fromhex(key)
            return key
