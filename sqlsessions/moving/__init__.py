"""Moving in: the sessions of other libraries, read where those keep them.

Each `Source` is the old place of a `MigratingStorage`, or is copied by `copy_sessions` and by ``sqlsessions import
--from``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..layers.migrating import MigratingStorage
from ..layers.sources import OldSession, Refused, Source, StorageSource
from .copying import Copied, copy_sessions

if TYPE_CHECKING:
    from .redis import AiohttpSessionRedis, FlaskSessionRedis, LitestarRedis, StarsessionsRedis
    from .tables import ConnectPgTable, DjangoTable, FlaskSessionTable

__all__ = [
    "AiohttpSessionRedis",
    "ConnectPgTable",
    "Copied",
    "DjangoTable",
    "FlaskSessionRedis",
    "FlaskSessionTable",
    "LitestarRedis",
    "MigratingStorage",
    "OldSession",
    "Refused",
    "Source",
    "StarsessionsRedis",
    "StorageSource",
    "copy_sessions",
]

# What they need is imported by the first use of these: redis, for one.
_LAZY = {
    "AiohttpSessionRedis": ".redis",
    "ConnectPgTable": ".tables",
    "DjangoTable": ".tables",
    "FlaskSessionRedis": ".redis",
    "FlaskSessionTable": ".tables",
    "LitestarRedis": ".redis",
    "StarsessionsRedis": ".redis",
}


def __getattr__(name: str) -> Any:
    if module := _LAZY.get(name):
        return getattr(import_module(module, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
