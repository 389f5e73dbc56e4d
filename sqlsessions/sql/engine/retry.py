"""What a database error means, and how long something is tried."""

from __future__ import annotations

import random
import time
from typing import NoReturn

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ...errors import SchemaOutOfDate, StorageUnavailable
from ..dialects import Dialect, ErrorKind

FIRST_PAUSE = 0.02  # seconds; doubles up to the longest, half of it random
LONGEST_PAUSE = 0.5  # seconds

REPEATABLE = frozenset({ErrorKind.RETRY, ErrorKind.REFUSED, ErrorKind.LOST})
DROPPED = frozenset({ErrorKind.REFUSED, ErrorKind.LOST})
"""After these a connection is of no more use."""

UNKNOWN = "the connection was lost, and whether the operation took effect is unknown"


class Backoff:
    """How long to wait before something is tried again.

    Args:
        seconds: For how long after the first attempt began others may begin.
    """

    __slots__ = ("_deadline", "_longest")

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._longest = FIRST_PAUSE

    def pause(self, fault: ErrorKind) -> float | None:
        """Seconds to wait after a failed attempt; None if it was the last."""
        left = self._deadline - time.monotonic()
        if fault not in REPEATABLE or left <= 0:
            return None
        longest, self._longest = self._longest, min(2 * self._longest, LONGEST_PAUSE)
        return min(left, longest * random.uniform(0.5, 1.0))  # noqa: S311 (spreads retries)


def raise_translated(dialect: Dialect, error: Exception) -> NoReturn:
    """Raise what a database error means to a caller of ours; any other error as it is."""
    raise translated(dialect, error)


def translated(dialect: Dialect, error: Exception) -> Exception:
    """What a database error means to a caller of ours; any other error as it is."""
    if isinstance(error, StatementError):
        error.hide_parameters = True  # they are session data
    cause: BaseException | None = error.orig if isinstance(error, DBAPIError) else error
    if dialect.fault(error) is ErrorKind.SCHEMA:
        meaning: Exception = SchemaOutOfDate(
            "this database does not have the tables of this version of sqlsessions: run `sqlsessions upgrade`"
        )
    elif isinstance(error, PoolTimeout):
        meaning = StorageUnavailable(
            "no connection became free in time: the pool is exhausted, raise pool_size"
        )
    elif isinstance(error, (SQLAlchemyError, OSError, TimeoutError)) or dialect.raised(error):
        meaning = StorageUnavailable(
            f"the database cannot be reached or refused the operation ({type(cause).__name__})"
        )
    else:
        return error
    meaning.__cause__ = cause
    return meaning
