"""The answer to a request while the session storage is unavailable: one 503 for every framework."""

from __future__ import annotations

import logging
from typing import Literal

from ...errors import InvalidArgument, StorageUnavailable

logger = logging.getLogger("sqlsessions")

Unavailable = Literal["503", "raise"]

STATUS = 503
RETRY_AFTER = 1  # seconds
HEADERS = {"Content-Type": "text/plain; charset=utf-8", "Retry-After": str(RETRY_AFTER)}
TEXT = "The session storage is unavailable. Try again later."
WEBSOCKET_CODE = 1013  # "try again later": https://www.iana.org/assignments/websocket


def is_raised(unavailable: str) -> bool:
    """Whether `StorageUnavailable` is raised for the application to handle, instead of a 503.

    Raises:
        InvalidArgument: If the setting is neither ``"503"`` nor ``"raise"``.
    """
    if unavailable not in ("503", "raise"):
        raise InvalidArgument(f"unavailable must be '503' or 'raise', not {unavailable!r}")
    return unavailable == "raise"


def log(error: StorageUnavailable) -> None:
    """Log the error that is answered with a 503."""
    logger.error("a session could not be read or written: %s", error)
