"""The bus of a SQLite file: a counter of commits, which costs microseconds to read and is exact."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from ...cache.bus import Bus, BusStatistics, Notice, Subscriber
from ..batching.operations import Delete, Operation, Write
from ..engine.database import Database

# https://www.sqlite.org/pragma.html#pragma_data_version
_DATA_VERSION = "PRAGMA data_version"


class Mark(NamedTuple):
    """What the counters said as a transaction of ours began.

    Attributes:
        seen: The bus's own.
        others: That of the connection that writes, which its own commits leave alone.
    """

    seen: int | None
    others: int


class SQLiteBus(Bus):
    """Knows from a connection of its own whether anything was committed since it looked last.

    What was changed it does not know, but of the commits of its own storage's batches, which leave the state
    alone and are told as notices. The connection is used in the event loop's thread, since it waits for nothing.

    Args:
        database: The database, whose commits are watched.
        file: Its file.
    """

    def __init__(self, database: Database, file: Path) -> None:
        super().__init__()
        self._file = file
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._lock = Lock()
        self._seen: int | None = None
        self._state = 0
        self._database = database

    def state(self) -> object | None:
        with self._lock:
            return self._state if self._look() is not None else None

    def last_state(self) -> object | None:
        with self._lock:
            return self._state if self._seen is not None or self._look() is not None else None

    @property
    def statistics(self) -> BusStatistics:
        return BusStatistics(self.state() is not None, 0.0, 0, self._notices)

    async def aclose(self) -> None:
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def subscribe(self, subscriber: Subscriber) -> None:
        super().subscribe(subscriber)
        self._database.watch = self

    def begun(self, raw: sqlite3.Connection) -> Mark:
        """Look at the counters, as a connection has just begun to write: until it commits, nobody does."""
        with self._lock:
            return Mark(self._look(), _data_version(raw))

    def committed(
        self, raw: sqlite3.Connection, mark: Mark, changes: Sequence[Operation], results: Sequence[Any]
    ) -> None:
        """Tell of changes that were committed; if nobody else has committed, the state stays."""
        notices = [
            Notice(change.digest, result[1] if isinstance(change, Write) else 0)
            for change, result in zip(changes, results, strict=True)
            if isinstance(change, (Write, Delete)) and result
        ]
        if notices:
            self._deliver(notices)
        with self._lock:
            if mark.seen is None or self._seen != mark.seen:
                return
            seen = self._read()
            with suppress(sqlite3.Error):  # without WAL, another connection may hold the lock by now
                if seen is not None and _data_version(raw) == mark.others:
                    self._seen = seen

    def _look(self) -> int | None:
        """Read the counter; another state if it has changed."""
        seen = self._read()
        if seen != self._seen:
            self._seen = seen
            self._state += 1
        return seen

    def _read(self) -> int | None:
        try:
            if self._connection is None:
                if self._closed:
                    return None
                self._connection = sqlite3.connect(
                    f"{self._file.absolute().as_uri()}?mode=rw",
                    uri=True,
                    timeout=0.0,
                    isolation_level=None,
                    check_same_thread=False,
                )
            return _data_version(self._connection)
        except sqlite3.Error:  # there is no file yet, or without WAL it is locked
            return None


def _data_version(connection: sqlite3.Connection) -> int:
    version: int = connection.execute(_DATA_VERSION).fetchone()[0]
    return version
