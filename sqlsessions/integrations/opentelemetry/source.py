"""What telemetry can know about a storage: what it is, what is beneath it, why it failed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sqlalchemy import URL

from ...cache.storage import CacheStorage
from ...errors import StorageUnavailable
from ...events import Events, Kind
from ...sql import SqlSessionStorage
from ...storage import SessionStorage

if TYPE_CHECKING:
    from .instruments import Instruments

# Of the convention's registry; what is no database that it knows may have a name of its own.
SYSTEMS = {"postgresql": "postgresql", "sqlite": "sqlite", "mysql": "mysql", "mariadb": "mariadb"}
OTHER = "sqlsessions"
COLLECTION = "sessions"
OUTCOME, HIT, MISS = "sqlsessions.outcome", "hit", "miss"

Attributes = dict[str, Any]


def layers(storage: Any) -> Iterator[Any]:
    """A storage and those beneath it, the outermost first."""
    while isinstance(storage, SessionStorage):
        yield storage
        storage = getattr(storage, "_delegate", None)


class Source:
    """A storage with those beneath it, as seen by telemetry.

    Attributes:
        common: The attributes of all that comes from it.
        cache: The outermost cache, if there is one.
        sql: The SQL storage, if there is one.
        pool: The name of its connection pool.
        target: What the name of a span ends with.
    """

    def __init__(self, storage: SessionStorage) -> None:
        found = list(layers(storage))
        self.cache = next((layer for layer in found if isinstance(layer, CacheStorage)), None)
        self.sql = next((layer for layer in found if isinstance(layer, SqlSessionStorage)), None)
        self._events: Events | None = getattr(found[-1], "_events", None)
        self.common: Attributes = {"db.system.name": OTHER}
        self.pool = OTHER
        self.target = ""
        if self.sql is not None:
            database = self.sql._database  # noqa: SLF001 (this package's own)
            url = database.url
            self.common = described(url)
            self.pool = ":".join(str(part) for part in (url.host, url.port) if part) or url.get_backend_name()
            if namespace := self.common.get("db.namespace"):
                self.pool += f"/{namespace}"
            self.target = f" {COLLECTION}"
        self._known: dict[tuple[str, str | None], Attributes] = {}

    def of(self, operation: str, outcome: str | None = None) -> Attributes:
        """The attributes of an operation; not to be changed."""
        key = operation, outcome
        if key not in self._known:
            known = self.common | {"db.operation.name": operation}
            self._known[key] = known if outcome is None else known | {OUTCOME: outcome}
        return self._known[key]

    def failure(self, error: BaseException) -> Attributes:
        """Why an operation failed: by the database's own code if it gave one, else by a class."""
        cause = error.__cause__ if isinstance(error, StorageUnavailable) else None
        if cause is None:
            return {"error.type": type(error).__qualname__}
        code = self.sql._database.dialect.code(cause) if self.sql else None  # noqa: SLF001
        if code is None:
            return {"error.type": type(cause).__qualname__}
        return {"error.type": str(code), "db.response.status_code": str(code)}

    def observe(self, instruments: Instruments | None) -> None:
        """Have the storage tell what happens inside it; None ends that."""
        if self._events is not None:
            self._events.observer = None if instruments is None else _Changes(instruments, self.common)
        if self.sql is not None:
            observer = None if instruments is None else _Work(instruments, self)
            self.sql._database.observer = observer  # noqa: SLF001


class _Changes:
    """Counts sessions that begin, change id and end."""

    def __init__(self, instruments: Instruments, attributes: Attributes) -> None:
        self._instruments = instruments
        self._attributes = attributes

    def __call__(self, kind: Kind, count: int) -> None:
        if kind != "expired":  # which the purge counts
            self._instruments.changes[kind].add(count, self._attributes)


class _Work:
    """The `Observer` of a database."""

    def __init__(self, instruments: Instruments, source: Source) -> None:
        self._instruments = instruments
        self._common = source.common
        self._kinds = (source.of("read"), source.of("write"))

    def batch(self, size: int, *, writes: bool) -> None:
        self._instruments.batches.record(size, self._kinds[writes])

    def retry(self, fault: str) -> None:
        self._instruments.retries.add(1, self._common | {"sqlsessions.fault": fault.lower()})


def described(url: URL) -> Attributes:
    """The attributes of a database: its kind, address and name."""
    name = url.get_backend_name()
    attributes: Attributes = {
        "db.system.name": SYSTEMS.get(name, "other_sql"),
        "db.collection.name": COLLECTION,
    }
    if name == "sqlite":
        return attributes  # a path tells about the machine, not about the database
    if url.database:
        attributes["db.namespace"] = url.database
    if url.host:
        attributes["server.address"] = url.host
        if url.port:
            attributes["server.port"] = url.port
    return attributes
