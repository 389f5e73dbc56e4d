"""URLs of SQLite: a file, and what SQLite takes after the name of one.

https://www.sqlite.org/uri.html
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import URL

from ....errors import InvalidArgument
from .query import UrlOptions

NOT_HERE = {
    "autocommit": "leave it out: a storage begins and ends its own transactions",
    "busy_timeout": "give the storage busy_timeout",
    "_busy_timeout": "give the storage busy_timeout",
    "factory": "leave it out",
    "foreign_keys": "leave it out: the tables have none",
    "journal_mode": "leave it out: it is WAL",
    "_journal_mode": "leave it out: it is WAL",
    "_journal": "leave it out: it is WAL",
    "schema": "name another file",
    "synchronous": "give the storage synchronous",
    "_synchronous": "give the storage synchronous",
    "connection_limit": "give the storage pool_size",
    "charset": "leave it out: it is always UTF-8",
}
"""Other libraries' words, and what to write instead."""

OF_THE_FILE = {
    "mode": ("ro", "rw", "rwc", "memory"),
    "cache": ("shared", "private"),
    "immutable": ("0", "1", "true", "false"),
    "nolock": ("0", "1", "true", "false"),
    "psow": ("0", "1", "true", "false"),
}
"""What SQLite itself takes, if the name begins with ``file:``, and which values."""


def opening(url: URL) -> dict[str, Any]:
    """The arguments of ``connect`` that the options of a URL stand for, but for the name of the file.

    Raises:
        InvalidArgument: If an option is unknown, or has a value that it cannot have, or needs a name that
            begins with ``file:``.
    """
    options = UrlOptions(url)
    options.refuse(NOT_HERE)
    named = (url.database or "").startswith("file:")
    for name, values in OF_THE_FILE.items():
        if options.choice(values, name) is not None and not named:
            raise InvalidArgument(
                f"url: {name} needs a name that begins with file:, as in sqlite:///file:sessions.db?{name}=...&uri=true"
            )
    options.text("vfs")
    if options.boolean("uri") is not True and named:
        raise InvalidArgument(
            "url: a name that begins with file: needs uri=true, as in sqlite:///file:sessions.db?uri=true"
        )
    found = {
        "timeout": options.seconds("timeout"),
        "cached_statements": options.integer("cached_statements"),
        "detect_types": options.integer("detect_types"),
        "check_same_thread": options.boolean("check_same_thread"),
    }
    options.finish()
    return {name: value for name, value in found.items() if value is not None}
