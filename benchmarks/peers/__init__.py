"""The sides of the comparison, by name."""

from __future__ import annotations

from importlib import import_module

from ..scratch import Unavailable
from .base import Peer

__all__ = ["CLIENTS", "OURS", "PEERS", "STORES", "Peer", "load"]

OURS = {
    "postgresql": "sqlsessions, PostgreSQL",
    "mariadb": "sqlsessions, MariaDB",
    "mysql": "sqlsessions, MySQL",
    "sqlite": "sqlsessions, SQLite FULL",
}
"""Our own, by server."""

STORES = {
    "sqlsessions, PostgreSQL": "ours:PostgreSQL",
    "raw asyncpg pool": "raw_asyncpg:RawAsyncpg",
    "SQLAlchemy Core per call, PostgreSQL": "core:CorePostgreSQL",
    "SQLAlchemy ORM per call, PostgreSQL": "orm:ORMPostgreSQL",
    "advanced-alchemy store, PostgreSQL": "advanced:AdvancedAlchemy",
    "sqlsessions, MariaDB": "ours:MariaDB",
    "SQLAlchemy Core per call, MariaDB": "core:CoreMariaDB",
    "SQLAlchemy ORM per call, MariaDB": "orm:ORMMariaDB",
    "sqlsessions, SQLite FULL": "ours:SQLite",
    "raw aiosqlite FULL": "raw_aiosqlite:Full",
    "sqlsessions, SQLite NORMAL": "ours:SQLiteNormal",
    "raw aiosqlite NORMAL": "raw_aiosqlite:Normal",
    "Django async sessions, SQLite FULL": "django_db:Django",
    "starsessions, Redis": "redis_starsessions:Starsessions",
    "Litestar, Redis": "redis_litestar:Litestar",
}
"""Ways to keep sessions, and where the class of each is, in this package."""

CLIENTS = {
    "sqlsessions, PostgreSQL": "ours:PostgreSQL",
    "raw asyncpg pool": "raw_asyncpg:RawAsyncpg",
    "raw psycopg pipeline": "raw_psycopg:PsycopgPipeline",
    "valkey-glide, Redis always": "redis_clients:GlideAlways",
    "coredis, Redis always": "redis_clients:CoredisAlways",
    "redis-py, Redis always": "redis_clients:RedisPyAlways",
    "valkey-glide, Redis": "redis_clients:Glide",
    "coredis, Redis": "redis_clients:Coredis",
    "redis-py, Redis": "redis_clients:RedisPy",
    "sqlsessions, SQLite FULL": "ours:SQLite",
    "raw aiosqlite FULL": "raw_aiosqlite:Full",
    "sqlsessions, MariaDB": "ours:MariaDB",
    "raw asyncmy pool, MariaDB": "raw_asyncmy:AsyncmyMariaDB",
    "sqlsessions, MySQL": "ours:MySQL",
    "raw asyncmy pool, MySQL": "raw_asyncmy:AsyncmyMySQL",
}
"""Drivers and clients that one would use by hand, likewise."""

PEERS = STORES | CLIENTS


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
