"""`Plain`: session data as JSON has it, or an error that says where it has it not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any
from uuid import UUID

from ...errors import InvalidSessionData

DEPTH = 100
"""Levels of dicts and lists, the session's own included. Every decoder takes that many, also deep in a stack."""

DIGITS = 640
"""Digits of an integer, as many as Python reads however it is configured (`sys.set_int_max_str_digits`)."""

Path = tuple[str | int, ...]

_LARGEST = 10**DIGITS
_WIDE = 1 << 63


def scalar(value: Any) -> Any:
    """What JSON has in the place of a UUID or a member of an enum.

    Raises:
        TypeError: If it is neither.
    """
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Enum):
        return value.value
    raise TypeError(type(value).__name__)


class Plain:
    """Converts data to the types that JSON has.

    Attributes:
        is_wide: Whether the data held integers of more than 64 bits, or text that is no UTF-8.
    """

    def __init__(self) -> None:
        self.is_wide = False

    def __call__(self, value: Any, path: Path = ()) -> Any:
        """The data, in equal values of exact types.

        Args:
            value: The data.
            path: The keys and indexes that lead to it.

        Raises:
            InvalidSessionData: If JSON does not have such data.
        """
        if isinstance(value, (Enum, UUID)):
            return self(scalar(value), path)
        if not isinstance(value, (dict, list, tuple)):
            return self._leaf(value, path)
        if len(path) == DEPTH:
            raise InvalidSessionData(f"it is nested in more than {DEPTH} levels, or holds itself", path)
        if isinstance(value, dict):
            found = {}
            for key, item in value.items():
                name = self._key(key, path)
                found[name] = self(item, (*path, name))
            return found
        return [self(item, (*path, index)) for index, item in enumerate(value)]

    def _leaf(self, value: Any, path: Path) -> Any:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            return self._integer(value, path)
        if isinstance(value, float):
            return _number(value, path)
        raise InvalidSessionData(f"JSON has no {type(value).__name__}", path)

    def _text(self, value: str) -> str:
        try:
            value.encode()
        except UnicodeEncodeError:
            self.is_wide = True
        return str.__str__(value)

    def _integer(self, value: int, path: Path) -> int:
        number = int.__index__(value)
        if not -_WIDE <= number < _WIDE * 2:
            self.is_wide = True
            if not -_LARGEST < number < _LARGEST:
                raise InvalidSessionData(f"an integer has more than {DIGITS} digits", path)
        return number

    def _key(self, key: Any, path: Path) -> str:
        """A key as the standard library's encoder has it."""
        if isinstance(key, str):
            return self._text(key)
        if key is None or key is True or key is False:
            return {None: "null", True: "true", False: "false"}[key]
        if isinstance(key, int):
            return int.__repr__(self._integer(key, path))
        if isinstance(key, float):
            return float.__repr__(_number(key, path))
        raise InvalidSessionData(f"JSON has no keys of type {type(key).__name__}", path)


def _number(value: float, path: Path) -> float:
    number = float.__float__(value)
    if not math.isfinite(number):
        raise InvalidSessionData("JSON has no NaN and no infinity", path)
    return number


def is_too_deep(value: Any) -> bool:
    """Whether data has more levels of dicts and lists than are taken."""
    levels = [iter((value,))]
    while levels:
        for item in levels[-1]:
            if isinstance(item, (dict, list, tuple)):
                if len(levels) > DEPTH:
                    return True
                levels.append(iter(item.values()) if isinstance(item, dict) else iter(item))
                break
        else:
            levels.pop()
    return False


def culprit(value: Any, is_refused: Callable[[dict[str, Any]], bool]) -> Path:
    """The keys and indexes that lead to what is refused, as far as it is refused by itself.

    Args:
        value: Data that is refused.
        is_refused: Whether a dict is.
    """
    path: Path = ()
    while len(path) < DEPTH:
        for key, item, alone in _parts(value):
            if is_refused(alone):
                path, value = (*path, key), item
                break
        else:
            break
    return path


def _parts(value: Any) -> Iterator[tuple[str | int, Any, dict[Any, Any]]]:
    """The items of a dict or list, with their keys or indexes, and each in a dict of its own."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield key if isinstance(key, (str, int)) else f"a {type(key).__name__}", item, {key: item}
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield index, item, {"": item}
