"""The envelope of a session's data: what is kept beside it, which so takes no key from the application."""

from __future__ import annotations

from struct import Struct, error
from typing import Any

from .state import UNSET

Kept = tuple[Any, bool | None, Any, int | None]
"""What is kept beside data, as in the state: ``ttl``, ``browser``, ``cookie_until`` and ``authenticated``."""

NOTHING: Kept = (UNSET, None, UNSET, None)

MARK = b"\0sq"
"""Begins every envelope. Data that begins with it, as JSON cannot, is put into one."""

LEGACY = "__sqlsessions__"
"""The key that held the same in data of earlier versions."""

_PLAIN = MARK + b"1"
_AUTHENTICATED = MARK + b"2"
_HEAD = Struct(">4sbqq")
_AUTHENTICATED_HEAD = Struct(">4sbqqq")
_NEVER = -1
_BROWSER: dict[bool | None, int] = {None: -1, False: 0, True: 1}
_IS_BROWSER = {code: value for value, code in _BROWSER.items()}


def needs_envelope(data: dict[str, Any], body: bytes) -> bool:
    """Whether data would be taken for something else without an envelope."""
    return LEGACY in data or body.startswith(MARK)


def envelope(kept: Kept) -> bytes:
    """What to put before the data."""
    ttl, browser, until, authenticated = kept
    code = 0 if ttl is UNSET else _NEVER if ttl is None else ttl
    until = 0 if until is UNSET else until
    if authenticated is None:
        return _HEAD.pack(_PLAIN, _BROWSER[browser], code, until)
    return _AUTHENTICATED_HEAD.pack(_AUTHENTICATED, _BROWSER[browser], code, until, authenticated)


def unwrapped(raw: bytes) -> tuple[bytes, Kept | None]:
    """The data in an envelope, and what is kept beside it; None if that is nothing.

    Raises:
        ValueError: If it is no envelope of ours.
    """
    authenticated, head = None, _HEAD
    try:
        if raw.startswith(_AUTHENTICATED):
            head = _AUTHENTICATED_HEAD
            _, browser, ttl, until, authenticated = head.unpack_from(raw)
        else:
            mark, browser, ttl, until = head.unpack_from(raw)
            if mark != _PLAIN:
                raise ValueError("the envelope is one of a later version")
    except error:
        raise ValueError("the envelope is incomplete") from None
    if browser not in _IS_BROWSER or ttl < _NEVER or until < 0 or (authenticated or 0) < 0:
        raise ValueError("the envelope has values that it cannot have")
    idle = UNSET if ttl == 0 else None if ttl == _NEVER else ttl
    kept = idle, _IS_BROWSER[browser], until or UNSET, authenticated
    return raw[head.size :], kept if ttl or until or authenticated is not None else None


def take_legacy(data: dict[str, Any]) -> Kept | None:
    """Take out of data what an earlier version kept in it; None if the key is the application's."""
    match data[LEGACY]:
        case [None | int() as ttl, None | bool() as browser]:
            until = UNSET
        case [None | int() as ttl, None | bool() as browser, int() as until]:
            pass
        case _:
            return None
    del data[LEGACY]
    return UNSET if ttl == 0 else ttl, browser, until, None
