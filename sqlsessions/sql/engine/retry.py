"""The attempt loop: what is tried again, for how long, and what a database error means in the end."""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ...errors import SchemaOutOfDate, SessionError, StorageUnavailable
from ..dialects import Dialect, ErrorKind

T = TypeVar("T")

FIRST_PAUSE = 0.02  # seconds; doubles up to the longest, half of it random
LONGEST_PAUSE = 0.5  # seconds

AWAY = frozenset({ErrorKind.REFUSED, ErrorKind.LOST})
OTHER_TABLES = frozenset({ErrorKind.SCHEMA, ErrorKind.STALE})
REPEATABLE = frozenset({ErrorKind.RETRY, ErrorKind.LOCKED, ErrorKind.STALE}) | AWAY


class Attempts:
    """Attempts at one piece of work, until one succeeds, cannot be repeated, or there is no time left.

    Args:
        dialect: Classifies errors.
        retry_for: Seconds after `since` in which attempts may begin after the first; after the first attempt, if
            the database is there and can only not do the work yet.
        on_retry: Called with the kind of the error before work is tried again.
        on_other_tables: Called after an error that tells of tables which are not as they were, or should be.

    Attributes:
        connected: Whether the running attempt has its connection, so that it may take effect. The work
            sets it.
        in_doubt: Whether the reply to an attempt was lost, so that it may have taken effect, or yet will. The
            work must find out before it tries again.
        failure: The kind of the last error.
        since: When the work was called for, by `time.monotonic`; from the beginning, when it began.
    """

    __slots__ = (
        "_dialect",
        "_on_other_tables",
        "_on_retry",
        "_retry_for",
        "connected",
        "failure",
        "in_doubt",
        "since",
    )

    def __init__(
        self,
        dialect: Dialect,
        retry_for: float,
        on_retry: Callable[[ErrorKind], None],
        on_other_tables: Callable[[], None],
    ) -> None:
        self._dialect = dialect
        self._retry_for = retry_for
        self._on_retry = on_retry
        self._on_other_tables = on_other_tables
        self.connected = False
        self.in_doubt = False
        self.failure = ErrorKind.OTHER
        self.since = 0.0

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work.

        Args:
            work: One attempt.

        Raises:
            SessionError: As the work raised it, which is never repeated.
            Exception: The database error of the last attempt, untranslated.
        """
        begun = self.since = time.monotonic()
        tries = 0
        while True:
            self.connected = False
            try:
                return await work()
            except SessionError:
                raise
            except Exception as error:
                self.failure = self._dialect.error_kind(error)
                if self.failure in OTHER_TABLES:
                    self._on_other_tables()
                if self.connected and self.failure is ErrorKind.LOST:
                    self.in_doubt = True
                since = self.since if self.failure in AWAY else begun
                left = since + self._retry_for - time.monotonic()
                if self.failure not in REPEATABLE or left <= 0:
                    raise
            self._on_retry(self.failure)
            if self.failure is ErrorKind.STALE:
                continue  # once for each connection of the pool
            await asyncio.sleep(min(left, pause(tries)))
            tries += 1


def pause(tries: int) -> float:
    """Seconds to wait before work is tried again that failed `tries` times before the last one."""
    return min(FIRST_PAUSE * 2.0**tries, LONGEST_PAUSE) * random.uniform(0.5, 1.0)  # noqa: S311 (spreads retries)


def raise_translated(dialect: Dialect, error: Exception, *, in_doubt: bool = False) -> NoReturn:
    """Raise what `translated` gives, with the driver's error as its cause."""
    raise translated(dialect, error, in_doubt=in_doubt)


def translated(dialect: Dialect, error: Exception, *, in_doubt: bool = False) -> Exception:
    """What a database error means to a caller of ours; any other error as it is.

    Args:
        dialect: Of the database.
        error: The error.
        in_doubt: Whether the operation may have taken effect.
    """
    if isinstance(error, StatementError):
        error.hide_parameters = True  # they are session data
    cause: BaseException | None = error.orig if isinstance(error, DBAPIError) else error
    if not (isinstance(error, (SQLAlchemyError, OSError, TimeoutError)) or dialect.raised(error)):
        return error
    meaning: Exception
    if in_doubt:
        meaning = StorageUnavailable(
            "the connection was lost, and whether the operation took effect is unknown"
        )
    elif dialect.error_kind(error) is ErrorKind.SCHEMA:
        meaning = SchemaOutOfDate(
            "this database does not have the tables of this version of sqlsessions: run `sqlsessions upgrade`"
        )
    elif isinstance(error, PoolTimeout):
        meaning = StorageUnavailable(
            "no connection became free in time: the pool is exhausted, raise pool_size"
        )
    elif cause is not None and (reason := dialect.reason(cause)) is not None:
        meaning = StorageUnavailable(reason)
    else:
        meaning = StorageUnavailable(
            f"the database cannot be reached or refused the operation ({type(cause).__name__})"
        )
    meaning.__cause__ = cause
    _forget_locals(error)
    return meaning


def _forget_locals(error: BaseException | None) -> None:
    """Clear the locals of the frames that a database error came through, which SQLAlchemy and drivers fill with data."""
    seen = set[BaseException]()
    errors = [error]
    while errors:
        each = errors.pop()
        if each is None or each in seen:
            continue
        seen.add(each)
        errors += [each.__cause__, each.__context__]
        traceback.clear_frames(each.__traceback__)
