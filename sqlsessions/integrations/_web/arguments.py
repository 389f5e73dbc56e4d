"""Checked arguments that the integrations have in common."""

from __future__ import annotations

from ...errors import InvalidArgument, InvalidArgumentType
from ...storage import ManagedSessionStorage
from .session import Session


def checked_storage(storage: ManagedSessionStorage) -> ManagedSessionStorage:
    """The storage given.

    Raises:
        InvalidArgumentType: If it is not a `ManagedSessionStorage`.
    """
    if not isinstance(storage, ManagedSessionStorage):
        raise InvalidArgumentType(
            f"storage must be a ManagedSessionStorage, such as SqlSessionStorage(url), "
            f"not {type(storage).__name__}"
        )
    return storage


def required_subject(session: Session) -> str:
    """The subject of a session.

    Raises:
        InvalidArgument: If it has none.
    """
    if (subject := session.subject) is None:
        raise InvalidArgument("the session has no subject: set session.subject at login")
    return subject
