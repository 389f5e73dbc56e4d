"""URLs as hosts hand them out: every option works with a driver, or is refused, as the page of them says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

from sqlsessions import InvalidArgument, SqlSessionStorage, schema
from sqlsessions.sql.dialects import DIALECTS, Settings
from sqlsessions.sql.dialects.urls import mysql, postgresql, sqlite
from sqlsessions.sql.engine.urls import async_url

from ..faults.servers.certificates import Certificates
from .support import at, works

# Closing TLS takes more turns of the event loop than are left to a test's own when a storage was closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]

PAGE = Path(__file__).parent.parent.parent / "docs" / "urls.md"

SETTINGS = Settings(
    pool_size=1, pool_timeout=5, connect_timeout=5, synchronous="FULL", busy_timeout=5, retry_for=0
)


def documented() -> Iterator[tuple[str, str, bool]]:
    """Every option of the page, with a driver, and whether it works with it."""
    drivers: list[str] = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells or cells[0].startswith("---"):
            continue
        if cells[0] == "Option":
            drivers = cells[1:]
            continue
        before, _, alias = cells[0].partition(" for `")
        options = re.findall(r"`([^`]*=[^`]*)`", before)
        options += re.findall(r", `([^`]*=[^`]*)` for", cells[0]) if alias else []
        for driver, cell in zip(drivers, cells[1:], strict=True):
            assert cell in ("yes", "refused"), line
            for option in options:
                yield option, driver, cell == "yes"


NEED_OTHER_SERVERS = {
    "sslmode=verify-full&sslrootcert=system",
    "gssencmode=require",
    "channel_binding=require",  # with passwords
}
DOCUMENTED = sorted(set(documented()))


def named(option: str, pem: Certificates, tls_servers: dict[str, Any]) -> str:
    """An option of the page with the names of real files."""
    option = option.replace("mysqld.sock", str(tls_servers["mysql"].folder / "s"))
    option = option.replace("ca.pem", str(pem.authority)).replace("client.key", str(pem.client_key))
    return option.replace("client.pem", str(pem.client))


@pytest.mark.parametrize(("option", "driver", "usable"), [one for one in DOCUMENTED if one[1] != "aiosqlite"])
async def test_an_option_does_what_the_page_says(
    option: str,
    driver: str,
    usable: bool,
    pem: Certificates,
    tls_servers: dict[str, Any],
    tls_urls: dict[str, str],
) -> None:
    kind = "postgresql" if driver in ("asyncpg", "psycopg") else "mysql"
    url = at(tls_urls[kind], driver, named(option, pem, tls_servers))
    if not usable:
        for use in (lambda: SqlSessionStorage(url), lambda: made(url)):
            with pytest.raises(InvalidArgument, match=r"^url"):
                use()
        with pytest.raises(InvalidArgument, match=r"^url"):
            await schema.current(url)
    elif option in NEED_OTHER_SERVERS:
        SqlSessionStorage(url)
    else:
        await works(url)


def made(url: str) -> Any:
    parsed = async_url(url)
    return DIALECTS[parsed.get_backend_name()].options(parsed, SETTINGS)


@pytest.mark.parametrize(("option", "driver", "usable"), [one for one in DOCUMENTED if one[1] == "aiosqlite"])
async def test_an_option_of_sqlite_does_what_the_page_says(
    option: str, driver: str, usable: bool, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/sessions.db?{option}"
    if usable:
        await schema.upgrade(url)
        await works(url)
    else:
        with pytest.raises(InvalidArgument, match=r"^url"):
            SqlSessionStorage(url)
        with pytest.raises(InvalidArgument, match=r"^url"):
            await schema.upgrade(url)


@pytest.mark.parametrize("password", ["hunter@2", "hunter@2/3", "hun@ter@2"])
def test_an_at_sign_that_is_not_escaped_shows_no_part_of_a_password(password: str) -> None:
    with pytest.raises(InvalidArgument, match="write it as %40") as caught:
        SqlSessionStorage(f"postgresql+asyncpg://me:{password}@host/name")
    assert "hun" not in str(caught.value)
    assert "2" not in str(caught.value)


@pytest.mark.parametrize(
    "kind", ["postgresql+asyncpg", "postgresql+psycopg", "mysql+asyncmy", "mysql+aiomysql"]
)
@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("sslmod=require", "write 'sslmode'"),
        ("frobnicate=1", "leave it out"),
        ("ssl=maybe", "must be one of"),
        ("connect_timeout=soon", "connect_timeout must be a number"),
        ("connect_timeout=-1", "connect_timeout must be a number"),
        ("pool_size=5", "give the storage pool_size"),
        ("sslrootcert=/nowhere/ca.pem", "names no file that can be read"),
        ("user=a&user=b", "more than one value"),
    ],
)
def test_a_wrong_word_is_refused_at_once(kind: str, option: str, hint: str) -> None:
    with pytest.raises(InvalidArgument, match=hint) as caught:
        SqlSessionStorage(f"{kind}://me:hunter2@host/name?{option}")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("word", sorted({*postgresql.NOT_HERE, *postgresql.LIBPQ_ALONE}))
def test_every_word_of_postgresql_has_an_answer(word: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"^url.*{word}"):
        SqlSessionStorage(f"postgresql+asyncpg://host/name?{word}=require")


@pytest.mark.parametrize(
    ("url", "words"),
    [("mysql+asyncmy://host/name", mysql.NOT_HERE), ("sqlite:///name", sqlite.NOT_HERE)],
)
def test_every_foreign_word_has_an_answer(url: str, words: dict[str, str]) -> None:
    for word, instead in words.items():
        with pytest.raises(InvalidArgument, match=re.escape(instead)):
            SqlSessionStorage(f"{url}?{word}=1")


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_addresses_of_postgresql(
    driver: str, tls_servers: dict[str, Any], tls_urls: dict[str, str]
) -> None:
    port, name = tls_servers["postgresql"].port, make_url(tls_urls["postgresql"]).database
    folder = str(tls_servers["postgresql"].folder)
    encoded = folder.replace("/", "%2F")
    where = f"postgresql+{driver}://"
    for url in (
        f"{where}postgres@localhost:{port}/{name}",
        f"{where}postgres@127.0.0.1:1,127.0.0.1:{port}/{name}",
        f"{where}postgres@127.0.0.1:1,127.0.0.1:{port}/{name}?target_session_attrs=read-write",
        f"{where}postgres@/{name}?host=127.0.0.1:1&host=127.0.0.1:{port}",
        f"{where}postgres@/{name}?host=127.0.0.1,127.0.0.1&port=1,{port}",
        f"{where}/{name}?user=postgres&host={folder}&port={port}",
        f"{where}postgres@{encoded}:{port}/{name}",
        f"{where}postgres@/?host={folder}&port={port}&dbname={name}",
        f"  {where}postgres@127.0.0.1:{port}/{name}\n",
    ):
        await works(url)
    for url in (
        f"{where}postgres@/{name}?host=127.0.0.1,127.0.0.1&port=1,2,3",
        f"{where}postgres@127.0.0.1:1,127.0.0.1:many/{name}",
        f"{where}postgres@/{name}?host=127.0.0.1&port=many",
        f"{where}postgres@/{name}?host=127.0.0.1&port=70000",
    ):
        with pytest.raises(InvalidArgument, match="url"):
            SqlSessionStorage(url)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgres://me@[::1]:5433/name", "::1"),
        ("mysql://me@[::1]:3307/name", "::1"),
        ("mariadb://me@db.example/name", "db.example"),
    ],
)
def test_schemes_and_ipv6(url: str, host: str) -> None:
    storage = SqlSessionStorage(url)
    assert storage._database.url.host == host
    assert storage._database.driver in ("asyncpg", "asyncmy")


def test_several_hosts_of_mysql_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="several hosts"):
        SqlSessionStorage("mysql://me@one,two/name")
