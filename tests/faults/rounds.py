"""What the fault tests share: how many rounds, and waiting for a database to be at rest."""

from __future__ import annotations

import asyncio
import os

import pytest
from sqlalchemy import make_url

from ..sql.support import query
from .load import PATIENCE

LONG = int(os.environ.get("SQLSESSIONS_FAULT_ROUNDS", "50"))


def rounds(few: int, many: int = LONG) -> pytest.MarkDecorator:
    """Run a test with a few rounds in every run, and with many in `make faults`."""
    values = [pytest.param(few, id="few"), pytest.param(max(1, many), id="many", marks=pytest.mark.long)]
    return pytest.mark.parametrize("rounds", values)


OTHERS = {
    "postgresql": "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    "mysql": "information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
}


async def connections(url: str) -> int:
    """How many connections to a server's database there are besides the one that asks."""
    if (kind := make_url(url).get_backend_name()) == "sqlite":
        return 0
    [(number,)] = await query(url, f"SELECT count(*) FROM {OTHERS[kind]}")
    return int(number)


async def connections_ended(url: str) -> None:
    """Wait until the server has noticed that a client is dead: only then does nothing more happen."""
    async with asyncio.timeout(PATIENCE):
        while await connections(url):
            await asyncio.sleep(0.01)
