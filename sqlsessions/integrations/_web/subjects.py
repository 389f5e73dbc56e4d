"""Subjects: those of users, and those that are reserved for what is not a user's."""

from __future__ import annotations

from ... import records
from ..._validation import RESERVED, is_reserved
from ...errors import InvalidArgument

__all__ = ["RESERVED", "checked_subject"]


def checked_subject(subject: str) -> str:
    """Check a user's subject.

    Raises:
        InvalidArgumentType: If it is not a string.
        InvalidArgument: If no storage takes it, or it is reserved.
    """
    if is_reserved(records.checked_subject(subject)):
        raise InvalidArgument("a subject must not begin with the control character U+001F, which is reserved")
    return subject
