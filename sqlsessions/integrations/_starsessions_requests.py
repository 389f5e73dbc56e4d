"""What belongs to one request through the `SessionMiddleware` for starsessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from ..info import SessionInfo
from ..storage import ManagedSessionStorage
from ._web.state import UNSET

SCOPE_KEY = "sqlsessions.starsessions"
"""Where the scope of a request has its state."""


@dataclass(frozen=True, slots=True, repr=False)
class Found:
    """What a request read under the id of its cookie.

    Attributes:
        storage: The storage that it was read from.
        presented: The id that was asked for.
        id: The id of the live session, which may be that of another cookie of the same name.
        info: The session; None if there is none.
    """

    storage: ManagedSessionStorage
    presented: str
    id: str
    info: SessionInfo | None


@dataclass(slots=True, repr=False)
class RequestState:
    """A request, in all of its tasks.

    Attributes:
        candidates: The ids in its cookies.
        client: Gives what to keep of its client; None keeps nothing.
        found: What it read; None until then.
        kept: The id whose cookie the browser keeps as it is; None if there is none.
        removed: Whether it ended the session, whose names then do not move to another id.
        subject: The subject that it gives the session, or UNSET.
        labels: The labels, or UNSET.
    """

    candidates: tuple[str, ...] = ()
    client: Callable[[], Mapping[str, str] | None] | None = None
    found: Found | None = None
    kept: str | None = None
    removed: bool = False
    subject: Any = UNSET
    labels: Any = UNSET

    @property
    def info(self) -> SessionInfo | None:
        """The session that it read, or wrote."""
        return None if self.found is None else self.found.info

    @property
    def owner(self) -> str | None:
        """Whose session it is by now."""
        if self.subject is not UNSET:
            return None if self.subject is None else str(self.subject)
        return None if self.info is None else self.info.subject

    def names(self, over: SessionInfo | None) -> dict[str, Any]:
        """The subject, the labels and the client to write with a session, as far as they differ from its own.

        Args:
            over: What is written over; None for a new id, to which the names of the session that was read move.
        """
        before = over or (None if self.removed else self.info)
        had = (None, ()) if before is None else (before.subject, before.labels)
        subject = had[0] if self.subject is UNSET else self.subject
        others = had[0] is not None and subject not in (None, had[0])
        labels = self.labels if self.labels is not UNSET else () if others else had[1]
        options: dict[str, Any] = {}
        if subject != (over and over.subject):
            options["subject"] = subject
        if labels != (over.labels if over else ()):
            options["labels"] = labels
        if self.client is not None and (client := self.client() or None) != (over and over.client):
            options["client"] = client
        return options


current_request: ContextVar[RequestState | None] = ContextVar(
    "sqlsessions_starsessions_request", default=None
)
"""The request that is served."""
