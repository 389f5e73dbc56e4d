"""Sessions that end because a request deleted their last key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .payloads import Payloads
from .session import Session

ENDED = b""
"""What a session's data is replaced with before it is ended, on the condition that no other request wrote.

No serializer gives these bytes for a dict, so that a request in between does not bring the session back.
"""


class Emptied:
    """Tells whether a request emptied its session.

    Args:
        is_empty: Whether a session's data is not worth storing.
        payloads: Decodes what was stored.
    """

    def __init__(self, is_empty: Callable[[dict[str, Any]], bool], payloads: Payloads) -> None:
        self._is_empty = is_empty
        self._payloads = payloads

    def __call__(self, session: Session, data: dict[str, Any]) -> bool:
        """Whether the data to be stored is empty, unlike before; a login keeps the session.

        Args:
            session: The session as it was read.
            data: Its data as it is to be stored.
        """
        if not self._is_empty(data) or session.logs_in:
            return False
        before = self._payloads.changes(session.state.raw, {}).removed
        return not self._is_empty(dict.fromkeys(before))
