"""Server-side sessions for async Python services, kept in the SQL database they already run."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .cache.storage import CacheStatistics, CacheStorage
from .channels import ByteReadChannel, ByteWriteChannel, Consumer, Provider
from .delegating import DelegatingStorage
from .errors import (
    ArchiveDamaged,
    ChannelClosed,
    InvalidArgument,
    InvalidArgumentType,
    InvalidSessionId,
    SchemaOutOfDate,
    SessionChanged,
    SessionConflict,
    SessionCorrupt,
    SessionError,
    SessionNotFound,
    SessionTooLarge,
    StorageUnavailable,
    UnsupportedOperation,
    WrongEventLoop,
)
from .info import SessionInfo, Snapshot, Successor
from .memory import SessionStorageMemory
from .purging import Purged, PurgeStatistics, Purging
from .storage import DEFAULT, KEEP, ManagedSessionStorage, SessionStorage, new_session_id

if TYPE_CHECKING:
    from .sql import SqlSessionStorage, metadata

__all__ = [
    "DEFAULT",
    "KEEP",
    "ArchiveDamaged",
    "ByteReadChannel",
    "ByteWriteChannel",
    "CacheStatistics",
    "CacheStorage",
    "ChannelClosed",
    "Consumer",
    "DelegatingStorage",
    "InvalidArgument",
    "InvalidArgumentType",
    "InvalidSessionId",
    "ManagedSessionStorage",
    "Provider",
    "PurgeStatistics",
    "Purged",
    "Purging",
    "SchemaOutOfDate",
    "SessionChanged",
    "SessionConflict",
    "SessionCorrupt",
    "SessionError",
    "SessionInfo",
    "SessionNotFound",
    "SessionStorage",
    "SessionStorageMemory",
    "SessionTooLarge",
    "Snapshot",
    "SqlSessionStorage",
    "StorageUnavailable",
    "Successor",
    "UnsupportedOperation",
    "WrongEventLoop",
    "metadata",
    "new_session_id",
]


def __getattr__(name: str) -> Any:
    # SQLAlchemy is imported by the first use of these two, so that importing sqlsessions stays light.
    if name in ("SqlSessionStorage", "metadata"):
        return getattr(import_module(".sql", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
