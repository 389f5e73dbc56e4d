"""What a connection to MariaDB or MySQL must be set to, whatever its server is.

The drivers put values into the text of statements: bytes stay data only in utf8mb4, whose characters hold no
byte of ASCII, and only while a backslash escapes. Other settings change what a statement means, or whether COMMIT
ends a transaction. Connections that we open are set; the caller's are examined.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ...errors import StorageUnavailable

CHARSET = "utf8mb4"
SET = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', SESSION completion_type = 0, "
    "SESSION sql_safe_updates = 0, SESSION sql_select_limit = 18446744073709551615, SESSION sql_big_selects = 1, "
    f"SESSION sql_auto_is_null = 0, SESSION autocommit = 1, NAMES {CHARSET}"
)
"""MySQL says that autocommit is on where its global setting is off, and the drivers believe it: here it becomes so."""

SET_TRANSACTIONS = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE"

SHOW_SERVER = "SHOW SESSION VARIABLES WHERE Variable_name IN ('log_bin', 'sql_log_bin', 'binlog_format', 'max_allowed_packet')"
"""What no connection can set. MySQL warns of SELECT @@binlog_format."""

CHARACTER_SETS = ("character_set_client", "character_set_connection", "character_set_results")

NO_BACKSLASH_ESCAPES = 512
"""The bit in the status that a server sends with every reply; both drivers keep it."""

FORBIDDEN_MODES = {
    "NO_BACKSLASH_ESCAPES": "bytes of a session's data could become SQL",
    "EMPTY_STRING_IS_NULL": "empty strings and data become NULL",
    "ORACLE": "statements are read as those of another database",
    "SIMULTANEOUS_ASSIGNMENT": "assignments see the old values of those before them",
}
"""Parts of ``sql_mode`` that change what our statements mean, and how."""

STATEMENT_SIZE = 1024 * 1024
"""The most bytes of data in a statement of several rows, each escaped."""

ON, OFF = ("ON", "1"), ("OFF", "0")
UNLIMITED = (1 << 64) - 1
NEEDED = (
    ("completion_type", ("NO_CHAIN", "0"), "COMMIT does not only commit", "Set it to NO_CHAIN."),
    ("autocommit", ON, "what is written is not committed", "Set it to 1 on the server."),
    ("sql_safe_updates", OFF, "a purge is refused its statements", "Set it to 0."),
    ("sql_big_selects", ON, "large reads are refused", "Set it to 1."),
    ("tx_read_only", OFF, "nothing can be written", "SET SESSION TRANSACTION READ WRITE."),
    ("transaction_read_only", OFF, "nothing can be written", "SET SESSION TRANSACTION READ WRITE."),
)
"""Other variables: their good values, what the others do, and what to do about it."""


def least_packet(largest_value: int) -> int:
    """The ``max_allowed_packet`` that statements need, where each byte of data may be escaped.

    Args:
        largest_value: Bytes of the largest chunk or small session.
    """
    return max(STATEMENT_SIZE, 2 * largest_value) + 256 * 1024


def server_obstacle(values: Mapping[str, str], least: int) -> str | None:
    """What no connection can set, and is in the way; None if nothing is.

    Args:
        values: Variables of the server.
        least: The smallest ``max_allowed_packet`` that is enough.
    """
    if (
        values.get("log_bin", "OFF") in ON
        and values.get("sql_log_bin", "ON") in ON
        and values.get("binlog_format") == "STATEMENT"
    ):
        return (
            "binlog_format of the server is STATEMENT, in which InnoDB refuses what is written at READ COMMITTED: "
            "set it to ROW or MIXED"
        )
    if (packet := int(values.get("max_allowed_packet", least))) < least:
        return (
            f"max_allowed_packet of the server is {packet} bytes, too few for a statement with a chunk of a session: "
            f"set it to at least {least}, or lower chunk_size and inline_limit"
        )
    return None


def session_obstacles(values: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """What a connection must not be set to: for each its name, what is wrong, and what to do."""
    for name in CHARACTER_SETS:
        if (found := values.get(name, CHARSET)) != CHARSET:
            yield name, f"{name} is {found or 'none'}", f"Connect with charset={CHARSET}."
    modes = values.get("sql_mode", "").split(",")
    for mode, harm in FORBIDDEN_MODES.items():
        if mode in modes:
            yield "sql_mode", f"sql_mode has {mode}, by which {harm}", "Set an sql_mode without it."
    for name, good, harm, advice in NEEDED:
        if name in values and values[name] not in good:
            yield name, f"{name} is {values[name]}, by which {harm}", advice
    if int(values.get("sql_select_limit", UNLIMITED)) < 1 << 32:
        yield "sql_select_limit", "sql_select_limit cuts results off", "Set it to DEFAULT."


def refuse_driver(connection: Any) -> None:
    """Refuse a driver's connection through which data could become SQL, by what the driver knows: no round trip.

    Raises:
        StorageUnavailable: If its character set is another one, or a backslash does not escape.
    """
    if (charset := connection.character_set_name()) != CHARSET:
        raise StorageUnavailable(_unfit(f"its charset is {charset}", f"Connect with charset={CHARSET}."))
    if connection.server_status & NO_BACKSLASH_ESCAPES:
        _, seen, advice = next(session_obstacles({"sql_mode": "NO_BACKSLASH_ESCAPES"}))
        raise StorageUnavailable(_unfit(seen, advice))


def refuse_server(rows: Iterable[Sequence[object]], least: int) -> None:
    """Refuse a server by the rows of `SHOW_SERVER`.

    Raises:
        StorageUnavailable: If something is in the way that no connection can set; the message says what to change.
    """
    if found := server_obstacle({str(name): str(value) for name, value in rows}, least):
        raise StorageUnavailable(found)


def refuse_session(names: Sequence[str], row: Iterable[object]) -> None:
    """Refuse a connection by the row of `query`.

    Raises:
        StorageUnavailable: With the first setting that is in the way, and what to do.
    """
    values = {name: str(value) for name, value in zip(names, row, strict=True)}
    for _name, seen, advice in session_obstacles(values):
        raise StorageUnavailable(_unfit(seen, advice))


class SetUp:
    """Sets up connections that we opened; looks at the first one for what cannot be set.

    Args:
        largest_value: Bytes of the largest chunk or small session.
        lock_wait: Seconds that a statement waits for a row; None leaves it to the server.
    """

    def __init__(self, largest_value: int, lock_wait: float | None) -> None:
        self._set = SET
        if lock_wait is not None:
            wait = f"SET SESSION innodb_lock_wait_timeout = {max(1, round(lock_wait))}, "
            self._set = wait + SET.removeprefix("SET ")
        self._least = least_packet(largest_value)
        self._examined = False

    async def __call__(self, connection: Any) -> None:
        """Set up a driver's connection.

        Raises:
            StorageUnavailable: If something is in the way; the message says what to change.
        """
        await connection.query(self._set)
        await connection.query(SET_TRANSACTIONS)
        await connection.autocommit(False)
        refuse_driver(connection)
        if not self._examined:
            async with connection.cursor() as cursor:
                await cursor.execute(SHOW_SERVER)
                refuse_server(await cursor.fetchall(), self._least)
            self._examined = True


def query(names: Sequence[str]) -> str:
    """A query for variables; unlike SHOW, it is not cut short by some of them."""
    return f"SELECT {', '.join(f'@@{name}' for name in names)}"


def session_names(*, mariadb: bool) -> tuple[str, ...]:
    """The variables of a connection that matter."""
    # MariaDB before 11.1 has only the old name of the last one, MySQL only the new one.
    read_only = "tx_read_only" if mariadb else "transaction_read_only"
    others = ("sql_mode", "completion_type", "sql_safe_updates", "sql_select_limit", "sql_big_selects")
    return (*CHARACTER_SETS, *others, read_only, "autocommit")


def _unfit(seen: str, advice: str) -> str:
    return f"a connection of this engine is not fit for sessions: {seen}. {advice}"
