"""The sides of the comparison, by name."""

from __future__ import annotations

from importlib import import_module

from ..scratch import Unavailable
from .base import Peer

__all__ = ["OURS", "PEERS", "Peer", "load"]

OURS = {
    "postgresql": "sqlsessions, PostgreSQL",
    "mariadb": "sqlsessions, MariaDB",
    "mysql": "sqlsessions, MySQL",
    "sqlite": "sqlsessions, SQLite FULL",
}
"""Our own, by server."""

PEERS = {
    "sqlsessions, PostgreSQL": "ours:PostgreSQL",
    "raw asyncpg pool": "raw_asyncpg:RawAsyncpg",
    "raw psycopg pipeline": "raw_psycopg:PsycopgPipeline",
    "SQLAlchemy Core per call, PostgreSQL": "core:CorePostgreSQL",
    "SQLAlchemy ORM per call, PostgreSQL": "orm:ORMPostgreSQL",
    "advanced-alchemy store, PostgreSQL": "advanced:AdvancedAlchemy",
    "sqlsessions, MariaDB": "ours:MariaDB",
    "raw asyncmy pool, MariaDB": "raw_asyncmy:AsyncmyMariaDB",
    "SQLAlchemy Core per call, MariaDB": "core:CoreMariaDB",
    "SQLAlchemy ORM per call, MariaDB": "orm:ORMMariaDB",
    "sqlsessions, MySQL": "ours:MySQL",
    "raw asyncmy pool, MySQL": "raw_asyncmy:AsyncmyMySQL",
    "sqlsessions, SQLite FULL": "ours:SQLite",
    "raw aiosqlite FULL": "raw_aiosqlite:Full",
    "sqlsessions, SQLite NORMAL": "ours:SQLiteNormal",
    "raw aiosqlite NORMAL": "raw_aiosqlite:Normal",
    "Django async sessions, SQLite FULL": "django_db:Django",
    "valkey-glide, Redis": "redis_clients:Glide",
    "coredis, Redis": "redis_clients:Coredis",
    "redis-py, Redis": "redis_clients:RedisPy",
    "valkey-glide, Redis always": "redis_clients:GlideAlways",
    "coredis, Redis always": "redis_clients:CoredisAlways",
    "redis-py, Redis always": "redis_clients:RedisPyAlways",
    "starsessions, Redis": "redis_starsessions:Starsessions",
    "Litestar, Redis": "redis_litestar:Litestar",
}
"""Where the class of each is, in this package."""


def load(name: str) -> type[Peer]:
    """The class of a peer.

    Raises:
        Unavailable: If its package is not installed.
    """
    module, _, attribute = PEERS[name].partition(":")
    try:
        peer: type[Peer] = getattr(import_module(f".{module}", __package__), attribute)
    except ImportError as error:
        raise Unavailable(f"{error.name} is not installed") from error
    return peer
