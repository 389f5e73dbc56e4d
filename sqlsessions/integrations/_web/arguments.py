"""Checked arguments that the integrations have in common."""

from __future__ import annotations

from ... import records
from ...errors import InvalidArgument, InvalidArgumentType
from ...storage import ManagedSessionStorage

RESERVED = "\x1f"
"""What the subjects of our own begin with, and no user's: a control character, Unit Separator."""


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


def checked_subject(subject: str) -> str:
    """Check a user's subject.

    Raises:
        InvalidArgumentType: If it is not a string.
        InvalidArgument: If no storage takes it, or it is reserved for what is not a user's.
    """
    if records.checked_subject(subject).startswith(RESERVED):
        raise InvalidArgument("a subject must not begin with the control character U+001F, which is reserved")
    return subject
