"""Which sessions were given new ids lately, as far as this process knows."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from ...records import Clock

KEPT = 60.0  # seconds, longer than requests that came with the old id should take
MOST = 10_000


class Rotations:
    """Remembers for a minute what became of an id that was rotated away.

    The database cannot tell: it must not be able to lead from an old id to the new one. A request that
    still comes with the old id then neither clears the cookie that its browser was just given, nor
    lets a logout miss the session.

    Args:
        clock: Gives the time in seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._successors: OrderedDict[bytes, tuple[str, float]] = OrderedDict()
        self._lock = Lock()

    def add(self, old: bytes, key: str) -> None:
        """Say that a session was given a new id.

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
        """The key of the session that an id stood for; None if it was not rotated lately."""
        now = self._clock()
        with self._lock:
            key = None
            while (found := self._successors.get(old)) is not None and found[1] > now:
                key = found[0]
                old = bytes.fromhex(key)
            return key
