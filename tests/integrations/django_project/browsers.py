"""Browsers of the project, and the storage of its sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from django.test import AsyncClient, Client, override_settings

from sqlsessions.integrations._web.portal import run
from sqlsessions.testing import SpyStorage

from . import urls as urls  # noqa: PLC0414 (for tests to import)


@pytest.fixture(autouse=True)
async def in_use(storage: SpyStorage) -> AsyncIterator[None]:
    with override_settings(SQLSESSIONS={"storage": lambda: storage}):
        urls.meeting = urls.Meeting()
        yield
    # Whose connections on the background event loop would else stay until that ends.
    await asyncio.to_thread(run, storage.aclose())


def browser(key: str | None = None) -> Client:
    client = Client()
    if key is not None:
        client.cookies["sessionid"] = key
    return client


def abrowser(key: str | None = None) -> AsyncClient:
    client = AsyncClient()
    if key is not None:
        client.cookies["sessionid"] = key
    return client


def key_of(client: Client | AsyncClient) -> str:
    return str(client.cookies["sessionid"].value)


def begun() -> tuple[Client, str]:
    """A browser that has a session, and its key."""
    client = browser()
    client.get("/put/first")
    return client, key_of(client)


def refused(key: str) -> bool:
    """Whether a key stands for no session, and the browser is told so."""
    answer = browser(key).get("/read")
    cookie = answer.cookies.get("sessionid")
    return answer.json() == {} and cookie is not None and cookie["max-age"] == 0
