"""What a request changed in its session, to be applied to the session as it is by then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .serializers import Serializer

_MISSING = object()


@dataclass(slots=True)
class Changes:
    """The difference between two states of a session, key by key.

    Attributes:
        replaced: Whether everything before is dropped.
        assigned: Values of the keys that are new or other.
        removed: The keys that are gone.
    """

    replaced: bool = False
    assigned: dict[str, Any] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)

    @classmethod
    def between(cls, old: Mapping[str, Any], new: Mapping[str, Any], serializer: Serializer) -> Changes:
        """What leads from one state to another; values are the same if their bytes are."""
        changes = cls(removed={key for key in old if key not in new})
        for key, value in new.items():
            before = old.get(key, _MISSING)
            # Equal is not the same: True == 1 == 1.0.
            if before is _MISSING or serializer.dumps({"": before}) != serializer.dumps({"": value}):
                changes.assigned[key] = value
        return changes

    def apply(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """A state with the changes made."""
        if self.replaced:
            return dict(self.assigned)
        kept = {key: value for key, value in data.items() if key not in self.removed}
        return kept | self.assigned
