"""The use of sessions that Django's requests only read, which extends none of them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from sqlsessions import SessionInfo, SessionStorageMemory
from sqlsessions.integrations._web.portal import run
from sqlsessions.integrations.django import storage as configured
from sqlsessions.testing import ManualClock, SpyStorage

from .browsers import begun, refused


@pytest.mark.parametrize("theirs", [False, True])
def test_a_use_that_is_noted_extends_nothing(clock: ManualClock, theirs: bool) -> None:
    """Django's own middleware notes none."""
    storage = SpyStorage(SessionStorageMemory(clock=clock, touch_every=10))
    names = ["django.contrib.sessions.middleware.SessionMiddleware"] if theirs else settings.MIDDLEWARE
    kept = {"storage": lambda: storage}
    with override_settings(SESSION_COOKIE_AGE=100, SQLSESSIONS=kept, MIDDLEWARE=names):
        client, key = begun()
        info: Any = run(storage.delegate.info(key))
        for used in range(1, 6):
            clock.advance(19)
            assert client.get("/read").json() == {"first": 1}
            used_at = info.used_at if theirs else clock.now
            assert run(storage.delegate.info(key)) == replace(info, used_at=used_at)
            assert client.get("/untouched").json() == {}
            assert storage.calls.count("touch") == (0 if theirs else used)
        clock.advance(5)
        assert refused(key)


def test_a_session_that_ended_takes_no_use(clock: ManualClock) -> None:
    class Late(SessionStorageMemory):
        async def touch(self, id: str, **options: Any) -> SessionInfo | None:
            await self.invalidate(id)
            return await super().touch(id, **options)

    storage = Late(clock=clock, touch_every=10)
    with override_settings(SQLSESSIONS={"storage": lambda: storage}):
        client, _ = begun()
        clock.advance(10)
        assert client.get("/read").json() == {"first": 1}
        assert client.get("/read").json() == {}


def test_how_often_uses_are_noted_reaches_the_storage() -> None:
    with override_settings(SQLSESSIONS={"url": "sqlite://", "touch_every": timedelta(minutes=10)}):
        assert configured().touch_every == 600  # type: ignore[attr-defined]
        asyncio.run(configured().aclose())
