"""The labels that a request gives a session of Django's, until they are stored."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .._validation import checked_labels
from ._web.session import Session
from ._web.state import UNSET


class RequestedLabels:
    """Labels that were set, and not stored yet."""

    def __init__(self) -> None:
        self._requested: Any = UNSET

    def of(self, stored: Session | None) -> tuple[str, ...]:
        """Those of the session: the requested ones, or else those that are stored."""
        if self._requested is not UNSET:
            return tuple(self._requested)
        info = None if stored is None else stored.info
        return () if info is None else info.labels

    def set(self, stored: Session | None, labels: Collection[str]) -> bool:
        """Request labels; whether they are others than before."""
        checked = checked_labels(labels)
        changed = checked != self.of(stored)
        if changed:
            self._requested = checked
        return changed

    def drop(self) -> None:
        """Request none."""
        self._requested = ()

    def give(self, stored: Session) -> None:
        """Have the session written with them. Those of a user go as another one logs in."""
        owner, user = None if stored.info is None else stored.info.subject, stored.state.subject
        others = owner is not None and user not in (UNSET, None, owner)
        stored.state.labels = () if others and self._requested is UNSET else self._requested

    def settle(self) -> None:
        """Forget what was requested: it is stored."""
        self._requested = UNSET
