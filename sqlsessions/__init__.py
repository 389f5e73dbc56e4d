"""Server-side sessions for async Python services, kept in the SQL database they already run."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .cache.storage import CacheStatistics, CacheStorage
from .channels import ByteReadChannel, ByteWriteChannel, Consumer, Provider
from .delegating import DelegatingStorage
from .ended import KeepsEnded
from .errors import (
    ArchiveDamaged,
    ChannelClosed,
    InvalidArgument,
    InvalidArgumentType,
    InvalidLogoutToken,
    InvalidSessionData,
    InvalidSessionId,
    ProviderUnavailable,
    ReauthenticationRequired,
    SchemaOutOfDate,
    SessionChanged,
    SessionConflict,
    SessionCorrupt,
    SessionError,
    SessionModelMismatch,
    SessionNotFound,
    SessionTooLarge,
    StorageClosed,
    StorageUnavailable,
    TooManySessions,
    UnsupportedOperation,
    WrongEventLoop,
)
from .info import EndedSession, SessionInfo, Snapshot, Successor
from .memory import SessionStorageMemory
from .purging import Purged, PurgeStatistics, Purging
from .storage import DEFAULT, KEEP, ManagedSessionStorage, SessionStorage, new_session_id

if TYPE_CHECKING:
    from .layers.compression import CompressedStorage
    from .layers.encryption import EncryptedStorage, Rekeyed
    from .layers.migrating import MigratingStorage
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
    "CompressedStorage",
    "Consumer",
    "DelegatingStorage",
    "EncryptedStorage",
    "EndedSession",
    "InvalidArgument",
    "InvalidArgumentType",
    "InvalidLogoutToken",
    "InvalidSessionData",
    "InvalidSessionId",
    "KeepsEnded",
    "ManagedSessionStorage",
    "MigratingStorage",
    "Provider",
    "ProviderUnavailable",
    "PurgeStatistics",
    "Purged",
    "Purging",
    "ReauthenticationRequired",
    "Rekeyed",
    "SchemaOutOfDate",
    "SessionChanged",
    "SessionConflict",
    "SessionCorrupt",
    "SessionError",
    "SessionInfo",
    "SessionModelMismatch",
    "SessionNotFound",
    "SessionStorage",
    "SessionStorageMemory",
    "SessionTooLarge",
    "Snapshot",
    "SqlSessionStorage",
    "StorageClosed",
    "StorageUnavailable",
    "Successor",
    "TooManySessions",
    "UnsupportedOperation",
    "WrongEventLoop",
    "metadata",
    "new_session_id",
]


# SQLAlchemy, cryptography and zstandard are imported by the first use of these, so that importing sqlsessions stays light.
_LAZY = {
    "CompressedStorage": ".layers.compression",
    "EncryptedStorage": ".layers.encryption",
    "MigratingStorage": ".layers.migrating",
    "Rekeyed": ".layers.encryption",
    "SqlSessionStorage": ".sql",
    "metadata": ".sql",
}


def __getattr__(name: str) -> Any:
    if module := _LAZY.get(name):
        return getattr(import_module(module, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
