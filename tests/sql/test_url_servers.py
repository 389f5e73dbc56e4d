"""What a URL asks for is had on real servers: TLS, passwords, settings, schemas, or the reason why not."""

from __future__ import annotations

import os
import socket
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from sqlsessions import SqlSessionStorage, StorageUnavailable, schema

from ..faults.servers.certificates import Certificates
from ..faults.servers.mariadb import MariaDB
from ..faults.servers.postgres import Postgres
from ..faults.servers.process import folder
from .support import at, works

# Closing TLS takes more turns of the event loop than are left to a test's own when a storage was closed.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_password_of_any_characters(
    driver: str, tls_servers: dict[str, Any], tls_urls: dict[str, str]
) -> None:
    server = tls_servers["postgresql"]
    hba = server.data / "pg_hba.conf"
    before = hba.read_text()
    hba.write_text("host all guarded all scram-sha-256\n" + before)
    server.execute("SELECT pg_reload_conf()", "DROP ROLE IF EXISTS guarded")
    server.execute("""CREATE ROLE guarded SUPERUSER LOGIN PASSWORD 'p@ss:w/o r%d+€?#[]'""")
    name = make_url(tls_urls["postgresql"]).database
    where = f"127.0.0.1:{server.port}/{name}"
    await works(f"postgresql+{driver}://guarded:p%40ss%3Aw%2Fo%20r%25d%2B%E2%82%AC%3F%23%5B%5D@{where}")
    async with SqlSessionStorage(f"postgresql+{driver}://guarded:wrong@{where}", retry_for=0) as storage:
        with pytest.raises(StorageUnavailable, match="does not accept the user and password"):
            await storage.load("id")
    hba.write_text(before)
    server.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("driver", ["asyncmy", "aiomysql"])
async def test_a_password_of_any_characters_for_mysql(
    driver: str, tls_servers: dict[str, Any], tls_urls: dict[str, str]
) -> None:
    server, name = tls_servers["mysql"], make_url(tls_urls["mysql"]).database
    server.execute("SET NAMES utf8mb4", "CREATE OR REPLACE USER guarded@'%' IDENTIFIED BY 'p@ss:w/o r%d+é?'")
    server.execute("GRANT ALL ON *.* TO guarded@'%'")
    where = f"127.0.0.1:{server.port}/{name}"
    await works(f"mysql+{driver}://guarded:p%40ss%3Aw%2Fo%20r%25d%2B%C3%A9%3F@{where}")
    async with SqlSessionStorage(f"mysql+{driver}://guarded:wrong@{where}", retry_for=0) as storage:
        with pytest.raises(StorageUnavailable, match="does not accept the user and password"):
            await storage.load("id")


TRUST = [
    ("postgresql+asyncpg", "sslmode=verify-full&sslrootcert="),
    ("postgresql+psycopg", "sslmode=verify-full&sslrootcert="),
    ("mysql+asyncmy", "ssl-mode=VERIFY_CA&ssl_ca="),
    ("mysql+aiomysql", "ssl-mode=VERIFY_CA&ssl_ca="),
]


@pytest.mark.parametrize(("scheme", "option"), TRUST)
async def test_a_certificate_of_a_stranger_is_refused(
    scheme: str, option: str, pem: Certificates, tls_urls: dict[str, str]
) -> None:
    kind, driver = scheme.split("+")
    async with SqlSessionStorage(
        at(tls_urls[kind], driver, f"{option}{pem.stranger}"), retry_for=0
    ) as storage:
        with pytest.raises(StorageUnavailable, match="certificate"):
            await storage.load("id")


@pytest.mark.parametrize(
    ("scheme", "option"),
    [
        ("postgresql+asyncpg", "sslmode=require"),
        ("postgresql+psycopg", "ssl=true"),
        ("mysql+asyncmy", "ssl-mode=REQUIRED"),
        ("mysql+aiomysql", "ssl=true"),
    ],
)
async def test_a_server_without_tls_is_refused_where_tls_is_asked_for(
    scheme: str, option: str, pem: Certificates
) -> None:
    kind = scheme.partition("+")[0]
    with folder() as path:
        server = Postgres(path / "pg") if kind == "postgresql" else MariaDB(path / "my", skip_ssl="1")
        with server.started():
            url = make_url(server.create_database()).set(drivername=scheme)
            text = f"{url.render_as_string(hide_password=False)}?{option}"
            async with SqlSessionStorage(text, retry_for=0) as storage:
                with pytest.raises(StorageUnavailable, match="the server has no TLS, which the URL asks for"):
                    await storage.load("id")


@pytest.mark.parametrize("scheme", ["mysql+asyncmy", "mysql+aiomysql"])
async def test_tls_that_is_preferred_is_done_without(scheme: str) -> None:
    with folder() as path, MariaDB(path / "my", skip_ssl="1").started() as server:
        url = at(server.create_database(), scheme.partition("+")[2], "ssl-mode=PREFERRED")
        await schema.upgrade(url)
        await works(url)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_what_a_url_asks_of_postgresql_is_had(
    driver: str, pem: Certificates, tls_servers: dict[str, Any], tls_urls: dict[str, str]
) -> None:
    option = "sslmode=require&application_name=shop&options=-cwork_mem=77kB&keepalives_idle=33"
    storage = SqlSessionStorage(at(tls_urls["postgresql"], driver, option))
    async with storage, storage.engine.connect() as connection:
        rows = await connection.exec_driver_sql(
            "SELECT application_name, ssl, current_setting('work_mem') FROM pg_stat_activity "
            "JOIN pg_stat_ssl USING (pid) WHERE pid = pg_backend_pid()"
        )
        assert tuple(rows.one()) == ("shop", True, "77kB")
        raw: Any = (await connection.get_raw_connection()).driver_connection
        number = raw.fileno() if driver == "psycopg" else raw._transport.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(number)) as used:
            assert used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 33


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("options=-cnonsense=1", "does not know a setting that the URL names"),
        ("options=-cwork_mem=much", "does not take the value of a setting"),
        ("dbname=nowhere", "no database of this name"),
        ("user=nobody_at_all", "does not accept|does not let this user in"),
    ],
)
async def test_what_the_server_refuses_is_said(
    driver: str, option: str, says: str, tls_servers: dict[str, Any], tls_urls: dict[str, str]
) -> None:
    url = f"postgresql+{driver}://127.0.0.1:{tls_servers['postgresql'].port}/?{option}"
    url += "" if "user" in option else "&user=postgres"
    async with SqlSessionStorage(url, retry_for=0) as storage:
        with pytest.raises(StorageUnavailable, match=says):
            await storage.load("id")


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_schema_of_its_own(driver: str, tls_servers: dict[str, Any]) -> None:
    url = tls_servers["postgresql"].create_database()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "My App"')
    mine = at(url, driver, "schema=My%20App")
    await schema.upgrade(mine)
    await works(mine)
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT schemaname FROM pg_tables WHERE tablename IN ('sessions', 'sqlsessions_alembic_version')"
        ).fetchall()
    assert rows == [("My App",)] * 2


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_nothing_is_prepared_where_the_url_says_so(
    driver: str, tls_servers: dict[str, Any], tls_urls: dict[str, str]
) -> None:
    for option in ("statement_cache_size=0", "pgbouncer=true", "prepared_statement_cache_size=0"):
        async with SqlSessionStorage(at(tls_urls["postgresql"], driver, option), pool_size=1) as storage:
            for _ in range(10):
                await storage.write_bytes("id", b"data")
                await storage.read_bytes("id")
            async with storage.engine.connect() as connection:
                rows = await connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements")
                assert rows.scalar() == 0
