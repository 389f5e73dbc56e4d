"""Session data as it is stored, and the changes that one request made to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...errors import SessionNotFound, SessionTooLarge
from ...info import Snapshot
from ...storage import SessionStorage
from .comparing import Encode, differing
from .envelopes import LEGACY, MARK, NOTHING, Kept, envelope, needs_envelope, take_legacy, unwrapped
from .serializers import Serializer, checked_serializer
from .sources import Source
from .state import UNSET, State
from .unreadable import log_unreadable

Stored = tuple[dict[str, Any], Kept | None]
"""Data, and what is kept beside it; None if nothing."""

MAX_SIZE = 1024 * 1024
"""The most bytes of a session in a storage without a ``max_size``: strangers decide what is in it."""

_BRACE = ord("{")


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
    assigned: dict[str, Any] = field(default_factory=dict, repr=False)
    removed: set[str] = field(default_factory=set, repr=False)
    merged: dict[str, Callable[[Any], Any]] = field(default_factory=dict, repr=False)

    @classmethod
    def between(cls, old: Mapping[str, Any], new: Mapping[str, Any], dumps: Encode) -> Changes:
        """The changes that lead from one state to another; values are the same if their bytes are."""
        differ = set(differing(old, new, dumps))
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


def max_size(storage: SessionStorage | None) -> int:
    """The most bytes of a session that comes through an integration: the storage's own limit, or else `MAX_SIZE`."""
    limit: int | None = getattr(storage, "max_size", None)
    return MAX_SIZE if limit is None else limit


class Payloads:
    """Encodes the data of sessions, with what is kept beside it, and decodes it.

    Args:
        serializer: Encodes and decodes; None is JSON.
        storage: The storage of the sessions, whose security log has those that cannot be read.
    """

    def __init__(self, serializer: Serializer | None, storage: SessionStorage | None = None) -> None:
        self._storage = storage
        self._serializer = checked_serializer(serializer)
        self._max_size = max_size(storage)

    def encode(self, data: dict[str, Any], state: State) -> bytes:
        """The bytes to store.

        Raises:
            InvalidSessionData: If they could not be read.
            SessionTooLarge: If they are too many, and others than are stored.
        """
        serializer, head = self._serializer, b""
        try:
            payload = body = serializer.encode(data)
        except (TypeError, ValueError, RecursionError):
            payload = body = serializer.draft(data)
        if (
            state.authenticated is not None
            or state.ttl is not UNSET
            or state.cookie_until is not UNSET
            or needs_envelope(data, body)
        ):
            head = envelope((state.ttl, state.browser, state.cookie_until, state.authenticated))
            payload = head + body
        if payload == state.raw and (serializer.unclear is None or body.find(serializer.unclear) < 0):
            return payload
        if len(payload) > self._max_size and payload != state.raw:
            raise SessionTooLarge(self._max_size, len(payload))
        confirmed = serializer.confirm(data, body)
        return payload if confirmed is body else head + confirmed

    def read(self, raw: bytes) -> Stored | None:
        """The data in stored bytes; None if they cannot be read."""
        kept, wrapped = None, False
        try:
            if raw[0] == _BRACE:
                data = self._serializer.decode(raw)
            else:
                if wrapped := raw.startswith(MARK):
                    raw, kept = unwrapped(raw)
                loads = self._serializer.decode if raw[0] == _BRACE else self._serializer.loads
                data = loads(raw)
        except Exception:  # noqa: BLE001 (a serializer may raise anything, a RecursionError for one)
            return None
        if not isinstance(data, dict):
            return None
        if LEGACY in data and not wrapped:
            return data, take_legacy(data)
        return data, kept

    def take(self, stored: Stored, state: State) -> dict[str, Any]:
        """The data; what is kept beside it goes to the state, unless the request set something else."""
        data, kept = stored
        state.cookie_until = UNSET
        authenticated = None
        if kept is not None:
            ttl, browser, state.cookie_until, authenticated = kept
            if not state.expiry_requested:
                state.ttl, state.browser = ttl, browser
        if not state.authenticating:
            state.authenticated = authenticated
        return data

    def decode(self, snapshot: Snapshot, state: State) -> dict[str, Any]:
        """The data of a session, of which `take` takes the expiry.

        Raises:
            SessionNotFound: If it cannot be read.
        """
        if (stored := self.read(snapshot.data)) is None:
            log_unreadable(self._storage, bytes.fromhex(snapshot.info.key))
            raise SessionNotFound("the data of the session cannot be read")
        return self.take(stored, state)

    def unchanged(self, payload: bytes, state: State, *, assigned: bool = False) -> bool:
        """Whether a payload holds the same data as is stored.

        Another serializer may have written that. Its bytes are replaced, in the state, by those that this
        serializer gives for the same data.

        Args:
            payload: The payload.
            state: The state of the session.
            assigned: Whether the request assigned to the session, so that data which only looks different is
                written as well; to find out would take as long as to encode it.
        """
        if payload != state.raw and not (state.raw_is_ours or assigned):
            if (stored := self.read(state.raw)) is not None:
                data, kept = stored
                body = self._serializer.draft(data)
                if kept is not None or needs_envelope(data, body):
                    body = envelope(kept or NOTHING) + body
                state.raw = body
            state.raw_is_ours = True
        return payload == state.raw

    def changes(self, raw: bytes, data: dict[str, Any], sources: Iterable[Source] = ()) -> Changes:
        """The changes that lead from stored bytes to other data, of which some is from sources."""
        stored = self.read(raw)
        old = {} if stored is None else stored[0]
        changes = Changes.between(old, data, self._serializer.draft)
        changes.merged = {source.key: source.merged for source in sources if source.key in changes.assigned}
        return changes
