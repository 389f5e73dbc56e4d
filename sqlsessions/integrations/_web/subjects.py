"""Subjects: those of users, and those that are reserved for what is not a user's."""

from __future__ import annotations

from ... import records
from ...errors import InvalidArgument

RESERVED = "\x1f"
"""What the subjects of our own begin with, and no user's: a control character, Unit Separator."""


def checked_subject(subject: str) -> str:
    """Check a user's subject.

    Raises:
        InvalidArgumentType: If it is not a string.
        InvalidArgument: If no storage takes it, or it is reserved.
    """
    if records.checked_subject(subject).startswith(RESERVED):
        raise InvalidArgument("a subject must not begin with the control character U+001F, which is reserved")
    return subject
