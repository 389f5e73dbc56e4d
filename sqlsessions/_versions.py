"""Versions of sessions: a counter that grows in the row, above random bits of the writer.

The next version comes from the one before it and from no clock: the counter is one more, the low bits are a token
that the writer has drawn for this write. A write is recognised by its token, which no other process draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import itemgetter
from os import urandom
from typing import Any

BLOCK = 1 << 32
"""The versions that have the same counter."""

CEILING = 1 << 62
"""A write of a version below applies to rows below, and one of a higher version to rows below itself.

So a write that arrives late does nothing once it was done again with a version above that, see `fence`.
"""

GAP = 256
"""How far a counter jumps over those of writes that may come in between."""

_MAX_COUNTER = (1 << 31) - 1
_FIRST_COUNTERS = 1 << 28
_DIGEST_AND_VERSION = itemgetter(0, 1)


def new_version() -> int:
    """The version of a session where there was none: a random counter and a new token."""
    random = int.from_bytes(urandom(8), "big")
    return (1 + (random >> 32) % _FIRST_COUNTERS) * BLOCK + random % BLOCK


def is_same_write(version: int, other: int) -> bool:
    """Whether two versions have the same token."""
    return version % BLOCK == other % BLOCK


def token_of(version: int) -> int:
    """What the writer of a version is recognised by."""
    return version % BLOCK


def next_version(before: int, version: int, *, steps: int = 1) -> int:
    """The version after another, with the token of a third.

    Args:
        before: The version that is replaced.
        version: Has the token.
        steps: By how much the counter grows.
    """
    return min(before // BLOCK + steps, _MAX_COUNTER) * BLOCK + version % BLOCK


def fence(version: int) -> int:
    """The least version with the same token of a row to which a small write of a version does not apply."""
    return max(version, CEILING + version % BLOCK)


def is_below(before: int, version: int) -> bool:
    """Whether a small write of a version applies to a row of another."""
    return before < max(version, CEILING)


def fits(version: int, known: int | None) -> int:
    """A version for a small write whose `CEILING` is above the row's version, as far as that is known."""
    return version if known is None or known < CEILING else next_version(known, version, steps=GAP)


class KnownVersions:
    """The versions that sessions were last seen to have, of a bounded number of sessions.

    They may be missing or old. With the version that a write met, it is known not to have taken effect although its
    reply was lost; and one over a version above the `CEILING` is given a higher version at once.
    """

    def __init__(self, most: int = 8192) -> None:
        self._most = most
        self._new: dict[bytes, int] = {}
        self._old: dict[bytes, int] = {}

    def note(self, digest: bytes, version: int) -> None:
        """Note the version that a session was seen with."""
        self._new[digest] = version
        if len(self._new) >= self._most:
            self._old, self._new = self._new, {}

    def note_all(self, rows: Iterable[Sequence[Any] | None]) -> None:
        """Note the versions in rows that begin with a digest and a version."""
        self._new.update(map(_DIGEST_AND_VERSION, filter(None, rows)))
        if len(self._new) >= self._most:
            self._old, self._new = self._new, {}

    def forget(self, digest: bytes) -> None:
        """Note that a session is not there."""
        self._new.pop(digest, None)
        self._old.pop(digest, None)

    def get(self, digest: bytes) -> int | None:
        """The version that a session was last seen with; None if that is not known."""
        return self._new.get(digest) or self._old.get(digest)
