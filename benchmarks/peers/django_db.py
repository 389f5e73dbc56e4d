"""Django's database sessions through their async methods, on SQLite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections

from .base import Peer


def on_sqlite(url: str) -> dict[str, Any]:
    """The settings of an SQLite database at WAL and synchronous=FULL."""
    pragmas = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL"
    path = url.partition(":///")[2]
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "OPTIONS": {"init_command": pragmas}}


class Django(Peer):
    """`django.contrib.sessions.backends.db` at WAL and synchronous=FULL."""

    server = "sqlite"

    async def setup(self, ids: Sequence[str]) -> None:
        """Make its table and the sessions: its own saving does not create one of a given id."""
        settings.configure(
            DATABASES={"default": on_sqlite(self.url)},
            INSTALLED_APPS=["django.contrib.sessions"],
            SECRET_KEY="benchmark",
            USE_TZ=True,
        )
        django.setup()
        from django.contrib.sessions.backends.db import SessionStore

        self.store = SessionStore
        await sync_to_async(self._create_table)()
        for id in ids:
            session = self.store(id)
            session.clear()
            await session.asave(must_create=True)

    async def get(self, id: str) -> bytes:
        """Load a session."""
        loaded = await self.store(id).aload()
        data: str = loaded["data"]
        return data.encode()

    async def set(self, id: str, data: bytes) -> None:
        """Save a session without loading it first."""
        session = self.store(id)
        session.clear()
        session["data"] = data.decode()
        await session.asave()

    async def close(self) -> None:
        """Close the connection."""
        await sync_to_async(connections.close_all)()

    def _create_table(self) -> None:
        with connections["default"].schema_editor() as editor:
            editor.create_model(self.store.get_model_class())
