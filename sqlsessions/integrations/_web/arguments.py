"""Checked arguments that the integrations have in common."""

from __future__ import annotations

from ...errors import InvalidArgumentType
from ...storage import ManagedSessionStorage


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
