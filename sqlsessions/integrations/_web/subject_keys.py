"""Subjects that follow from the data of sessions, for applications that log a user in by a key alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...errors import InvalidArgumentType
from .session import Session

SubjectKey = str | Callable[[Mapping[str, Any]], str | None]
"""The key of the user's id, a string or an integer; or a function of a session's data that gives the subject."""


class KeyedSubjects:
    """Logs users in and out as the data of their sessions says.

    Args:
        key: The key, or the function.

    Raises:
        InvalidArgumentType: If it is neither.
    """

    def __init__(self, key: SubjectKey) -> None:
        if not isinstance(key, str) and not callable(key):
            raise InvalidArgumentType(f"subject_key must be a key or a function, not {type(key).__name__}")
        self._key = key

    def note(self, session: Session) -> None:
        """Note the user that the data of a session names, before its request changes it."""
        try:
            session.state.named = self._named(session.plain())
        except InvalidArgumentType:
            session.state.named = None

    def apply(self, session: Session) -> None:
        """Before a session is written, log in the user that its data names by now, or out if it names none.

        A subject that the request has set itself is left alone. One that has been named for longer, such as from
        before there was a ``subject_key``, is set without a login.

        Raises:
            InvalidArgumentType: If the key holds neither a string nor an integer.
            InvalidArgument: If it is no subject.
        """
        state = session.state
        if isinstance(state.subject, str):
            return
        before = None if state.id is None else state.named
        named = self._named(session.plain())
        state.named = named
        if named == session.subject:
            return
        if named != before or (state.cleared and named is not None):
            session.subject = named
        elif session.subject is None:
            session.subject = named
            state.adopts = True
            state.authenticate(None)

    def _named(self, data: Mapping[str, Any]) -> str | None:
        if callable(self._key):
            return self._key(data)
        value = data.get(self._key)
        if value is None or isinstance(value, str):
            return value or None
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise InvalidArgumentType(
            f"the key {self._key!r} of a session must hold a string or an integer as the subject, "
            f"not {type(value).__name__}"
        )


def keyed_subjects(key: SubjectKey | None) -> KeyedSubjects | None:
    """What the setting ``subject_key`` asks for; None if there is no such key."""
    return None if key is None else KeyedSubjects(key)
