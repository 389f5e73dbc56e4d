"""Options for `create_async_engine`, from the caller and from the URL, checked before they are used."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sqlalchemy import URL
from sqlalchemy.pool import NullPool, Pool, StaticPool

from ...errors import InvalidArgument, InvalidArgumentType
from ..dialects import Dialect, Settings

RESERVED = frozenset(
    {
        "isolation_level",
        "pool_reset_on_return",
        "skip_autocommit_rollback",
        "hide_parameters",
        "creator",
        "async_creator",
    }
)
"""Options that would take transactions out of our hands, or show session data."""

SIZED_POOL = frozenset({"pool_size", "max_overflow", "pool_timeout"})
"""Options that only a pool with a bound takes."""

NUMBERS = {"pool_size": 1, "max_overflow": -1, "pool_timeout": 0, "pool_recycle": -1, "query_cache_size": 0}
"""Options that are numbers, with the least one."""

NUMBERS_OF_DRIVERS = frozenset(
    {
        "cached_statements",
        "command_timeout",
        "connect_timeout",
        "prepare_threshold",
        "prepared_statement_cache_size",
        "read_timeout",
        "statement_cache_size",
        "timeout",
    }
)
"""Arguments of the drivers that are numbers, or None."""

FLAGS = frozenset({"pool_pre_ping", "pool_use_lifo", "enable_from_linting"})


def check(options: Mapping[str, Any]) -> None:
    """Check the options that a caller gives for our engines.

    Raises:
        InvalidArgument: If an option is the storage's own, or has a value that it cannot have.
        InvalidArgumentType: If an option is of the wrong type.
    """
    if not isinstance(options, Mapping):
        raise InvalidArgumentType(f"engine_options must be a mapping, not {type(options).__name__}")
    for name in ("connect_args", "execution_options"):
        if not isinstance(options.get(name, {}), Mapping):
            raise InvalidArgumentType(f"engine_options: {name} must be a mapping")
    for name in [*options, *options.get("execution_options", {})]:
        if name in RESERVED:
            raise InvalidArgument(
                f"engine_options must not set {name!r}: a storage sets it, and begins and ends its own "
                "transactions"
            )
    for name, value in options.items():
        _check_value(name, value)


def _check_value(name: str, value: Any) -> None:
    if name in NUMBERS:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InvalidArgumentType(f"engine_options: {name} must be a number, not {type(value).__name__}")
        if not NUMBERS[name] <= value < math.inf:
            raise InvalidArgument(f"engine_options: {name} must be at least {NUMBERS[name]}")
    elif name in FLAGS and not isinstance(value, bool):
        raise InvalidArgumentType(f"engine_options: {name} must be True or False")
    elif name == "poolclass" and not (isinstance(value, type) and issubclass(value, Pool)):
        raise InvalidArgumentType("engine_options: poolclass must be a class of sqlalchemy.pool")


def check_connect_args(dialect: Dialect, url: URL, given: Mapping[str, Any]) -> None:
    """Check the arguments that a caller gives for the driver's ``connect``.

    Raises:
        InvalidArgument: If the driver has no such argument.
    """
    if not given:
        return
    known = dialect.connect_arguments(url.get_driver_name())
    for name, value in given.items():
        if known and name not in known:
            raise InvalidArgument(
                f"engine_options: connect_args has {name!r}, which {url.get_driver_name()} does not take"
            )
        number = value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
        if name in NUMBERS_OF_DRIVERS and not number:
            raise InvalidArgumentType(f"engine_options: {name} of connect_args must be a number")


def for_engine(
    dialect: Dialect, url: URL, settings: Settings, options: Mapping[str, Any]
) -> tuple[URL, dict[str, Any]]:
    """The URL and the options of `create_async_engine` that connect as a URL and a caller say.

    Args:
        dialect: Of the database.
        url: With the async driver.
        settings: How to connect.
        options: The caller's, which win over those of the URL and of the settings.

    Raises:
        InvalidArgument: If an option of the URL is not one of its driver.
    """
    plain, own = dialect.options(url, settings)
    found = own | dict(options)
    found["connect_args"] = own["connect_args"] | dict(options.get("connect_args", {}))
    pool = found.get("poolclass")
    if pool is not None and issubclass(pool, (NullPool, StaticPool)):
        found = {name: value for name, value in found.items() if name not in SIZED_POOL}
    return plain, found
