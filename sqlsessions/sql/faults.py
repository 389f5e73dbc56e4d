"""What a database error means, and how often something is tried."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NoReturn

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from ..errors import SchemaOutOfDate, StorageUnavailable
from .dialects import Backend, Fault

ATTEMPTS = 4
FIRST_PAUSE = 0.02  # seconds; quadruples, half of it random

UNKNOWN = "the connection was lost, and whether the operation took effect is unknown"


def pauses() -> Iterator[float | None]:
    """Seconds to wait after each attempt that may be repeated; None after the last."""
    for attempt in range(ATTEMPTS - 1):
        yield FIRST_PAUSE * 4**attempt * random.uniform(0.5, 1.0)  # noqa: S311 (spreads retries)
    yield None


def raise_translated(backend: Backend, error: Exception) -> NoReturn:
    """Raise what a database error means to a caller of ours; any other error as it is."""
    raise translated(backend, error)


def translated(backend: Backend, error: Exception) -> Exception:
    """What a database error means to a caller of ours; any other error as it is."""
    if isinstance(error, StatementError):
        error.hide_parameters = True  # they are session data
    cause: BaseException | None = error.orig if isinstance(error, DBAPIError) else error
    if backend.fault(error) is Fault.SCHEMA:
        meaning: Exception = SchemaOutOfDate(
            "this database does not have the tables of this version of sqlsessions: run `sqlsessions upgrade`"
        )
    elif isinstance(error, PoolTimeout):
        meaning = StorageUnavailable(
            "no connection became free in time: the pool is exhausted, raise pool_size"
        )
    elif isinstance(error, (SQLAlchemyError, OSError, TimeoutError)) or backend.raised(error):
        meaning = StorageUnavailable(
            f"the database cannot be reached or refused the operation ({type(cause).__name__})"
        )
    else:
        return error
    meaning.__cause__ = cause
    return meaning
