"""The storage that telemetry describes: its database, its layers, the reasons of its failures."""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL

from ...cache.storage import CacheStorage
from ...delegating import layers
from ...errors import StorageUnavailable
from ...events import events_of
from ...sql import SqlSessionStorage
from ...sql.internals import internals_of
from ...storage import SessionStorage

# Names of the convention's registry. A storage that is no database known there has a name of its own.
SYSTEMS = {"postgresql": "postgresql", "sqlite": "sqlite", "mysql": "mysql", "mariadb": "mariadb"}
OTHER = "sqlsessions"
COLLECTION = "sessions"
OUTCOME, HIT, MISS = "sqlsessions.outcome", "hit", "miss"

Attributes = dict[str, Any]


class Source:
    """A storage with those beneath it, as telemetry describes it.

    Attributes:
        common: The attributes of every span and metric.
        cache: The outermost cache, if there is one.
        sql: The parts of the SQL storage, if there is one.
        events: The events of the innermost storage, if it has any.
        pool: The name of the connection pool.
        target: The suffix of the names of spans.
    """

    def __init__(self, storage: SessionStorage) -> None:
        found = list(layers(storage))
        innermost = found[-1]
        self.cache = next((layer for layer in found if isinstance(layer, CacheStorage)), None)
        self.sql = internals_of(innermost) if isinstance(innermost, SqlSessionStorage) else None
        self.events = events_of(innermost)
        self.common: Attributes = {"db.system.name": OTHER}
        self.pool = OTHER
        self.target = ""
        if self.sql is not None:
            url = self.sql.database.url
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
        """The attributes of a failure: the database's own code if it gave one, else the error's class."""
        cause = error.__cause__ if isinstance(error, StorageUnavailable) else None
        if cause is None:
            return {"error.type": type(error).__qualname__}
        code = self.sql.database.dialect.code(cause) if self.sql else None
        if code is None:
            return {"error.type": type(cause).__qualname__}
        return {"error.type": str(code), "db.response.status_code": str(code)}


def described(url: URL) -> Attributes:
    """The attributes of a database: its kind, address and name."""
    name = url.get_backend_name()
    attributes: Attributes = {
        "db.system.name": SYSTEMS.get(name, "other_sql"),
        "db.collection.name": COLLECTION,
    }
    if name == "sqlite":
        return attributes  # its path describes the machine rather than the database
    if url.database:
        attributes["db.namespace"] = url.database
    if url.host:
        attributes["server.address"] = url.host
        if url.port:
            attributes["server.port"] = url.port
    return attributes
