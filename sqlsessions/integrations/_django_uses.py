"""Noting that a session of Django was read, which by Django's own rules does not extend it."""

from __future__ import annotations

from contextlib import suppress

from ..errors import SessionNotFound
from ._web.portal import run
from ._web.session import Session
from ._web.writing import Writer


def note_use(writer: Writer, stored: Session | None) -> None:
    """Note that a request used its session, if that is due.

    Args:
        writer: Touches it.
        stored: The session as it was read or written; None if the request did neither.
    """
    if stored is not None and writer.is_use_due(stored):
        with suppress(SessionNotFound):  # it ended while it was read
            run(writer.note_use(stored))
