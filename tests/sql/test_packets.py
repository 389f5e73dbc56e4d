"""A batch on MariaDB and MySQL is one packet, where it fits, and no data in it is a statement."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sqlsessions import SqlSessionStorage
from sqlsessions.sql.dialects import ErrorKind
from sqlsessions.sql.dialects.mysql_session import STATEMENT_SIZE
from sqlsessions.sql.drivers import asyncmy

from .support import INLINE, holding, packets

ON_BOTH = ["mysql+asyncmy", "mysql+aiomysql", "MySQL+asyncmy", "MySQL+aiomysql"]


@pytest.mark.parametrize("sql_url", ON_BOTH, indirect=True)
async def test_a_batch_too_long_for_a_packet_is_still_one_transaction(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url, pool_size=1) as storage:
        ids = [f"id {number}" for number in range(40)]
        versions = [(await storage.write_bytes(id, INLINE)).version for id in ids]
        data = b"'" * 60_000
        async with packets() as sent:
            async with holding(storage, 1):
                waiting = [
                    asyncio.create_task(storage.write_bytes(id, data, if_match=version))
                    for id, version in zip(ids, versions, strict=True)
                ]
                await asyncio.sleep(0)
            await asyncio.gather(*waiting)
        assert len(sent) > 2
        assert max(sum(map(len, packet)) for packet in sent) <= STATEMENT_SIZE
        assert sum(packet.count("COMMIT") for packet in sent) < len(sent)
        for id in ids:
            assert await storage.read_bytes(id) == data


@pytest.mark.parametrize("sql_url", ON_BOTH, indirect=True)
async def test_what_looks_like_statements_stays_data(sql_url: str) -> None:
    data = ["'; DELETE FROM sessions; -- %s", "\\'; COMMIT; --", "\\", '"%(id)s"\0', "ü\\'"]
    ids = [f"{each} {number}" for number, each in enumerate(data)]
    async with SqlSessionStorage(sql_url, pool_size=1) as storage:
        for together in (False, True):
            async with holding(storage, 1):
                writes = [
                    asyncio.create_task(
                        storage.write_bytes(id, each.encode(), subject=each.replace("\0", ""))
                    )
                    for id, each in zip(ids, data, strict=True)
                ]
                await asyncio.sleep(0) if together else None
            versions = [info.version for info in await asyncio.gather(*writes)]
            changes = zip(ids, data, versions, strict=True)
            await asyncio.gather(
                *(storage.write_bytes(id, each.encode(), if_match=version) for id, each, version in changes)
            )
            for id, each in zip(ids, data, strict=True):
                snapshot = await storage.load(id)
                assert snapshot is not None
                assert (snapshot.data, snapshot.info.subject) == (each.encode(), each.replace("\0", ""))


@pytest.mark.parametrize("sql_url", ON_BOTH, indirect=True)
async def test_a_packet_that_the_server_does_not_go_on_with_is_given_up(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a KILL QUERY between two statements, for which a statement stands in that takes too long."""
    monkeypatch.setattr(asyncmy, "SILENCE", 0.1)
    async with SqlSessionStorage(sql_url, pool_size=1) as storage:
        driver: Any = storage._repository._executor._driver
        dialect = storage._database.dialect
        for statements in (["SELECT 1", "SELECT SLEEP(60)", "COMMIT"], ["SELECT 1", ""]):
            with pytest.raises(Exception) as told:  # noqa: PT011 (each driver has its own)
                async with asyncio.timeout(30), driver.checkout(writes=True) as connection:
                    await driver.send(connection, statements)
            assert dialect.error_kind(told.value) is ErrorKind.LOST
            assert not isinstance(told.value, TimeoutError)
        async with driver.checkout(writes=True) as connection:
            answers = await driver.send(connection, ["SELECT SLEEP(0.5)", "SELECT 2"])
        assert [rows[0][0] for rows, _ in answers] == [0, 2]
        await storage.write_bytes("id", INLINE)


@pytest.mark.parametrize("sql_url", ON_BOTH, indirect=True)
async def test_names_and_clients_count_in_a_packet(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url) as storage:
        async with packets() as sent:
            await asyncio.gather(
                *(
                    storage.write_bytes(
                        f"id {number}", b"x" * 2000, subject="\U0001f600" * 255, client={"agent": '"' * 900}
                    )
                    for number in range(512)
                )
            )
        assert max(sum(len(statement.encode()) for statement in packet) for packet in sent) < 1_310_720
        assert [info async for info in storage.sessions("\U0001f600" * 255)]
