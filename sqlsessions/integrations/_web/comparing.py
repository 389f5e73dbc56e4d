"""Which values of two dicts differ, by their bytes; quickly for many keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Encode = Callable[[dict[str, Any]], bytes]

TOGETHER = 64
"""How many values are encoded together: those of which some differ are encoded again, one by one."""

_EXACT = frozenset({str, int, bool, type(None)})
"""Types whose equal values have equal bytes. Floats are not among them: 0.0 == -0.0."""


def differing(old: Mapping[str, Any], new: Mapping[str, Any], dumps: Encode) -> Iterator[str]:
    """The keys of both whose values are not the same; values are the same if their bytes are."""
    unclear = []
    for key, value in new.items():
        if key not in old:
            continue
        before = old[key]
        # Equal is not the same: True == 1 == 1.0.
        if type(before) is not type(value) or type(value) not in _EXACT:
            unclear.append(key)
        elif before != value:
            yield key
    for start in range(0, len(unclear), TOGETHER):
        keys = unclear[start : start + TOGETHER]
        if _differ(old, new, keys, dumps):
            yield from (key for key in keys if len(keys) == 1 or _differ(old, new, [key], dumps))


def _differ(old: Mapping[str, Any], new: Mapping[str, Any], keys: list[str], dumps: Encode) -> bool:
    """Whether the values of any of some keys differ."""
    before = dumps({"": [old[key] for key in keys]})
    return before != dumps({"": [new[key] for key in keys]})
