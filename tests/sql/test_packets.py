"""A batch on MariaDB and MySQL is one packet, where it fits, and no data in it is a statement."""

from __future__ import annotations

import asyncio

import pytest

from sqlsessions import SqlSessionStorage
from sqlsessions.sql.dialects.mysql_session import STATEMENT_SIZE

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
