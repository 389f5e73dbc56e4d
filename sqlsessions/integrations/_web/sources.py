"""Parts of a session that the application holds as objects, such as models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


class Source:
    """An object that is stored under a key of a session when it has changed, merged field by field.

    Args:
        key: The key.
        dump: Gives the object's data, of types that can be stored.
        merges: Whether changes are merged; else the object replaces what is stored, such as data that it
            cannot be made of.
    """

    def __init__(self, key: str, dump: Callable[[], Any], *, merges: bool = True) -> None:
        self.key = key
        self._dump = dump
        self._merges = merges
        self._before = self._now = dump()

    def __call__(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """What to update a session's data with."""
        self._now = self._dump()
        if _same(self._before, self._now):
            return {}
        return {self.key: self.merged(data[self.key]) if self.key in data else self._now}

    def merged(self, value: Any) -> Any:
        """The object's data, as of the last call, where other requests may have changed other fields."""
        before, now = self._before, self._now
        if not (self._merges and all(isinstance(data, dict) for data in (value, before, now))):
            return now
        kept = {name: field for name, field in value.items() if name in now or name not in before}
        changed = {name: field for name, field in now.items() if not _same(before.get(name, _MISSING), field)}
        return kept | changed

    def settle(self) -> None:
        """Note that the data as of the last call is stored."""
        self._before = self._now


_MISSING = object()


def _same(old: Any, new: Any) -> bool:
    """Whether values have the same bytes when stored, unlike True and 1, which are equal."""
    return bool(old == new) and repr(old) == repr(new)
