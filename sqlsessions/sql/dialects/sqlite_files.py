"""Which file a SQLite database is, for those who must not make one by looking."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from sqlalchemy import URL

from .sqlite import in_memory


def database_file(url: URL) -> Path | None:
    """The file of a database; None if it is no file of this host, or not to be told from the URL."""
    name = url.database
    if url.get_backend_name() != "sqlite" or in_memory(url) or name is None or "vfs" in url.query:
        return None
    if name.startswith("file:"):  # https://www.sqlite.org/uri.html
        path = name.removeprefix("file:")
        if path.startswith("//"):
            path = "/" + path[2:].partition("/")[2]
        return None if path in ("", ":memory:") or "mode" in url.query else Path(unquote(path))
    return Path(name)


def missing_file(url: URL) -> Path | None:
    """The file of a database that connecting would make; None if there is one, or none would be made."""
    file = database_file(url)
    return file if file is not None and not file.exists() and file.parent.is_dir() else None
