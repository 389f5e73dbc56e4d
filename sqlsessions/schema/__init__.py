"""The tables of `SqlSessionStorage`: create them, upgrade them, check them.

Every function takes a database URL, for which a connection is opened and closed again, or the caller's
`AsyncEngine`, which is not disposed of. All raise `StorageUnavailable` if the database cannot be
reached or refuses, `InvalidArgument` for a URL that names no supported database and for an unknown
revision. No message holds a password.

An application with its own Alembic migrations can instead include those of sqlsessions (add
``sqlsessions.migrations:versions`` to its ``version_locations``), or own the tables
(``target_metadata = [its_metadata, sqlsessions.metadata]``).
"""

from .migrations import check, create_tables, current, downgrade, include_name, script, upgrade

__all__ = ["check", "create_tables", "current", "downgrade", "include_name", "script", "upgrade"]
