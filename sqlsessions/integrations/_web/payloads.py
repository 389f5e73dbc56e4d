"""Session data as it is stored, with what belongs to the session beside it."""

from __future__ import annotations

import logging
from typing import Any

from .changes import Changes
from .serializers import Serializer, checked_serializer
from .session import UNSET, State

logger = logging.getLogger("sqlsessions")

OWN = "__sqlsessions__"
"""The key under which a session's own expiry is kept: its idle timeout, whether to forget it."""


class Payloads:
    """Turns the data of sessions into bytes and back.

    Args:
        serializer: Does it; None is JSON.
    """

    def __init__(self, serializer: Serializer | None) -> None:
        self._serializer = checked_serializer(serializer)

    def encode(self, data: dict[str, Any], state: State) -> bytes:
        """The bytes to store."""
        if state.ttl is not UNSET:
            data = data | {OWN: [state.ttl, state.browser]}
        return self._serializer.dumps(data)

    def decode(self, raw: bytes, state: State) -> tuple[bytes, dict[str, Any]]:
        """The data of stored bytes, and the bytes; both empty if they cannot be decoded.

        The expiry that is kept with them goes to the state, unless the request set another.
        """
        data = self._decoded(raw)
        if data is None:
            logger.warning("the data of a session cannot be decoded and is taken for empty")
            return self._serializer.dumps({}), {}
        own = data.pop(OWN, None)
        if own is not None and not state.expiry_asked:
            state.ttl, state.browser = own
        return raw, data

    def same(self, payload: bytes, raw: bytes) -> bool:
        """Whether bytes to store hold what is stored; another serializer may have written that."""
        if payload == raw:
            return True
        data = self._decoded(raw)
        return data is not None and self._serializer.dumps(data) == payload

    def changes(self, raw: bytes, data: dict[str, Any]) -> Changes:
        """What leads from stored bytes to other data."""
        old = self._decoded(raw) or {}
        old.pop(OWN, None)
        return Changes.between(old, data, self._serializer)

    def _decoded(self, raw: bytes) -> dict[str, Any] | None:
        try:
            data = self._serializer.loads(raw)
        except Exception:  # noqa: BLE001 (a serializer may raise anything)
            return None
        return data if isinstance(data, dict) else None
