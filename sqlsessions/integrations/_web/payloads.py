"""Session data as it is stored, and the changes that one request made to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .comparing import differing
from .serializers import Serializer, checked_serializer
from .session import UNSET, State
from .sources import Source

logger = logging.getLogger("sqlsessions")

OWN = "__sqlsessions__"
"""The key of a session's own expiry: its idle timeout, whether the cookie ends with the browser, and until
when the browser keeps the cookie if the session was written later; 0 is what is not set."""


@dataclass(slots=True)
class Changes:
    """The difference between two states of a session, key by key.

    Attributes:
        replaced: Whether all earlier data is dropped.
        assigned: Values of the keys that are new or different.
        removed: The keys that are gone.
        merged: Those of the new values that are merged with what is stored: functions of that.
    """

    replaced: bool = False
    assigned: dict[str, Any] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    merged: dict[str, Callable[[Any], Any]] = field(default_factory=dict)

    @classmethod
    def between(cls, old: Mapping[str, Any], new: Mapping[str, Any], serializer: Serializer) -> Changes:
        """The changes that lead from one state to another; values are the same if their bytes are."""
        differ = set(differing(old, new, serializer))
        return cls(
            assigned={key: value for key, value in new.items() if key in differ or key not in old},
            removed={key for key in old if key not in new},
        )

    def __bool__(self) -> bool:
        return bool(self.replaced or self.assigned or self.removed)

    def apply(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of the data with the changes made."""
        if self.replaced:
            return dict(self.assigned)
        kept = {key: value for key, value in data.items() if key not in self.removed}
        merged = {key: merge(kept[key]) for key, merge in self.merged.items() if key in kept}
        return kept | self.assigned | merged


class Payloads:
    """Encodes the data of sessions, with their own expiry beside it, and decodes it.

    Args:
        serializer: Encodes and decodes; None is JSON.
    """

    def __init__(self, serializer: Serializer | None) -> None:
        self._serializer = checked_serializer(serializer)

    def encode(self, data: dict[str, Any], state: State) -> bytes:
        """The bytes to store."""
        if state.cookie_until is not UNSET:
            ttl = 0 if state.ttl is UNSET else state.ttl
            data = data | {OWN: [ttl, state.browser, state.cookie_until]}
        elif state.ttl is not UNSET:
            data = data | {OWN: [state.ttl, state.browser]}
        return self._serializer.dumps(data)

    def decode(self, raw: bytes, state: State) -> tuple[bytes, dict[str, Any]]:
        """Stored bytes and their data; both empty if they cannot be decoded.

        The expiry that is stored with the data goes to the state, unless the request set another.
        """
        data = self._decoded(raw)
        if data is None:
            logger.warning("the data of a session cannot be decoded and is taken for empty")
            return self._serializer.dumps({}), {}
        own = data.pop(OWN, None)
        state.cookie_until = UNSET
        if own is not None:
            ttl, browser, *until = own
            state.cookie_until = until[0] if until else UNSET
            if not state.expiry_requested:
                state.ttl, state.browser = UNSET if ttl == 0 else ttl, browser
        return raw, data

    def unchanged(self, payload: bytes, state: State) -> bool:
        """Whether a payload holds the same data as is stored.

        Another serializer may have written that. Its bytes are replaced, in the state, by those that this
        serializer gives for the same data.
        """
        if payload != state.raw and not state.raw_is_ours:
            data = self._decoded(state.raw)
            if data is not None:
                state.raw = self._serializer.dumps(data)
            state.raw_is_ours = True
        return payload == state.raw

    def changes(self, raw: bytes, data: dict[str, Any], sources: Iterable[Source] = ()) -> Changes:
        """The changes that lead from stored bytes to other data, of which some is from sources."""
        old = self._decoded(raw) or {}
        old.pop(OWN, None)
        changes = Changes.between(old, data, self._serializer)
        changes.merged = {source.key: source.merged for source in sources if source.key in changes.assigned}
        return changes

    def _decoded(self, raw: bytes) -> dict[str, Any] | None:
        try:
            data = self._serializer.loads(raw)
        except Exception:  # noqa: BLE001 (a serializer may raise anything)
            return None
        return data if isinstance(data, dict) else None
