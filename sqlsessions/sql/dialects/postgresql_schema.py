"""Which schema of PostgreSQL the tables are in: the first one of the search path, and no later one.

In a later one they may be another service's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import Connection, text

from ...errors import SchemaOutOfDate, StorageUnavailable
from .base import NO_SCHEMA

_ENTRY = re.compile(r'"((?:[^"]|"")+)"|([^\s,"]+)')
_SETTINGS = text("SELECT current_setting('search_path'), current_user")
_SCHEMAS = text(
    "SELECT nspname, has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = ANY(:names)"
)
_FOUND_IN = text(
    "SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
    "WHERE pg_class.oid = to_regclass(:name)"
)


def first_schema(connection: Connection, translated: str | None) -> str:
    """The first schema of the search path, but for a role's own that is not there.

    Args:
        connection: To the database.
        translated: The schema that is named instead, if any.

    Raises:
        SchemaOutOfDate: If it does not exist.
        StorageUnavailable: If the role may not use it, so that PostgreSQL would pass it over.
    """
    path, user = connection.execute(_SETTINGS).one()
    names = list(_entries(path)) if translated is None else [translated]
    found = connection.execute(_SCHEMAS, {"names": [*names, user]})
    usable = {name: may_use for name, may_use in found}  # noqa: C416 (rows are not pairs to mypy)
    for name in names:
        if name == "$user" and usable.get(user):
            return str(user)
        if name == "$user":
            continue
        if name not in usable:
            raise SchemaOutOfDate(NO_SCHEMA.format(name))
        if not usable[name]:
            raise StorageUnavailable(
                f"the role lacks USAGE on the schema {name!r}: GRANT USAGE ON SCHEMA {name} to it"
            )
        return name
    raise SchemaOutOfDate("the search_path of this connection names no schema: set one, as by schema=public")


def found_in(connection: Connection, table: str) -> str | None:
    """The schema in which a name without one finds a table; None if nowhere."""
    name: str | None = connection.execute(_FOUND_IN, {"name": table}).scalar()
    return name


def _entries(path: str) -> Iterator[str]:
    """The names in a search path, but for those of PostgreSQL's own schemas."""
    for quoted, plain in _ENTRY.findall(path):
        name = quoted.replace('""', '"') or plain.lower()
        if name not in ("pg_catalog", "pg_temp"):
            yield name
