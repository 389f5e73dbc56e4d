"""Django's own sessions, written by Django, and used with their cookies by our engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from sqlalchemy import URL

from sqlsessions import (
    ManagedSessionStorage,
    MigratingStorage,
    SessionStorageMemory,
    SqlSessionStorage,
    schema,
)
from sqlsessions.errors import InvalidArgument, InvalidArgumentType
from sqlsessions.integrations._web.portal import run
from sqlsessions.moving import DjangoTable

from ..commands.support import run as command
from ..databases import available
from ..integrations.django_project.browsers import browser
from .support import SECRET_KEY, django_sessions

Written = tuple[URL, dict[str, str]]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def written(request: pytest.FixtureRequest) -> Iterator[Written]:
    """A database of Django's, and the keys of the sessions in it."""
    server = available(request.param)
    url = server.create()
    yield url, django_sessions(url)
    server.drop(url)


@contextmanager
def using(storage: ManagedSessionStorage) -> Iterator[None]:
    with override_settings(SQLSESSIONS={"storage": lambda: storage}):
        yield
    run(storage.aclose())


def test_an_import(written: Written, tmp_path: Path) -> None:
    source, keys = written
    url = f"sqlite:///{tmp_path / 'new.db'}"
    asyncio.run(schema.upgrade(url))

    def imported(*options: str) -> str:
        arguments = ["import", "--from", "django", "--url", url, *options]
        environment = {
            "SQLSESSIONS_SOURCE": source.render_as_string(hide_password=False),
            "SQLSESSIONS_SOURCE_KEYS": f"a new one\n{SECRET_KEY}",
        }
        result = command(*arguments, input=None, **environment)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    rest = "1 have expired\n1 cannot be imported: its signature is of another key\n"
    dry = imported("--dry-run")
    assert dry.startswith("would import 2 sessions, ")
    assert dry.endswith(rest)
    assert imported() == dry.replace("would import", "imported")
    assert imported().splitlines() == [
        "imported 0 sessions, 0 bytes of data",
        "2 are in the database already, and stay as they are",
        *rest.splitlines(),
    ]
    with using(SqlSessionStorage(url)) as _:
        client = browser(keys["alice"])
        assert client.get("/read").json() == {"first": 1}
        mine = client.get("/mine").json()
        assert mine["user"] == 7
    with asyncio.Runner() as runner:
        info = runner.run(_info(url, keys["alice"]))
    assert info.expires_at == datetime.fromisoformat(keys["expires_at"])
    assert info.subject == "7"


async def _info(url: str, id: str) -> Any:
    async with SqlSessionStorage(url) as storage:
        return await storage.info(id)


def test_cookies_of_django_go_on(written: Written) -> None:
    url, keys = written
    storage = MigratingStorage(SessionStorageMemory(), DjangoTable(url, ["new", SECRET_KEY]))
    with using(storage):
        assert [browser(keys[name]).get("/read").json() for name in ("forged", "expired")] == [{}, {}]
        client = browser(keys["alice"])
        assert client.get("/read").json() == {"first": 1}
        mine = client.get("/mine").json()
        assert (mine["user"], len(mine["keys"])) == (7, 1)
        client.get("/put/second")
        assert browser(keys["alice"]).get("/read").json() == {"first": 1, "second": 1}
        client.get("/logout")
        assert browser(keys["alice"]).get("/mine").json()["user"] is None
        assert browser(keys["anonymous"]).get("/read").json() == {"first": 1}
    restarted = MigratingStorage(SessionStorageMemory(), DjangoTable(url, [SECRET_KEY]))
    with using(restarted):  # what was moved is in the old place no more
        assert browser(keys["anonymous"]).get("/read").json() == {}


def test_a_user_is_logged_out_everywhere_who_has_not_come_by() -> None:
    url = available("sqlite").create()
    keys = django_sessions(url)
    storage = MigratingStorage(SessionStorageMemory(), DjangoTable(url, [SECRET_KEY]))
    with using(storage):
        assert run(storage.revoke("7")) == 1
        assert browser(keys["alice"]).get("/read").json() == {}
        assert browser(keys["anonymous"]).get("/read").json() == {"first": 1}
    available("sqlite").drop(url)


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("sqlite:///a.db", SECRET_KEY), {}),
        (("sqlite:///a.db", []), {}),
        (("sqlite:///a.db", [SECRET_KEY]), {"table": "a b"}),
        (("redis://host", [SECRET_KEY]), {}),
        (("sqlite:///a.db", [SECRET_KEY]), {"subject": 1}),
    ],
    ids=["a string", "no key", "no table", "no database", "no subject"],
)
def test_wrong_arguments(arguments: Any, options: Any) -> None:
    with pytest.raises((InvalidArgument, InvalidArgumentType)):
        DjangoTable(*arguments, **options)
