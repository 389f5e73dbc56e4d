"""Checked arguments that the integrations have in common."""

from __future__ import annotations

from ...errors import InvalidArgumentType
from ...records import duration
from ...storage import DEFAULT, Default, ManagedSessionStorage


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


def default_ttl(storage: ManagedSessionStorage) -> int | Default | None:
    """A storage's idle timeout in microseconds, None for none; DEFAULT if it does not tell."""
    ttl: float | Default | None = getattr(storage, "default_ttl", DEFAULT)
    return ttl if ttl is DEFAULT else duration("default_ttl", ttl)


def touch_every(storage: ManagedSessionStorage) -> int | None:
    """How often a storage has the use of a session noted, in microseconds; None if the idle timeout determines that."""
    return duration("touch_every", getattr(storage, "touch_every", None))
