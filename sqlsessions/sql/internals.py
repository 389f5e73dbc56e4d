"""The parts of a `SqlSessionStorage` for the archive and telemetry: their only way past its public methods."""

from __future__ import annotations

from dataclasses import dataclass

from ..records import Lifetime, Record
from .engine.database import Database
from .repository import SessionRepository
from .staging import Limits, Staging
from .storage import SqlSessionStorage

DIGITS = 64  # of a key
NO_RECORD = Record(1, 0, None, None, 0, 0, None, None)


@dataclass(frozen=True, slots=True)
class Internals:
    """The parts of a storage.

    Attributes:
        database: Runs work on the database.
        repository: The operations on sessions, by digest.
        staging: Stages and streams the data of large sessions.
        limits: The sizes that decide how data is kept.
        defaults: The lifetime of new sessions.
    """

    database: Database
    repository: SessionRepository
    staging: Staging
    limits: Limits
    defaults: Lifetime


def internals_of(storage: SqlSessionStorage) -> Internals:
    """The parts of a storage."""
    repository = storage._repository  # noqa: SLF001
    return Internals(
        storage._database,  # noqa: SLF001
        repository,
        storage._staging,  # noqa: SLF001
        storage._limits,  # noqa: SLF001
        repository.defaults,
    )


async def keys_from(storage: SqlSessionStorage, prefix: str) -> list[str]:
    """The keys of live sessions that begin with some hexadecimal digits in lower case; a page of them at most."""
    least, length = prefix.ljust(DIGITS, "0"), len(prefix)
    before = max(int(least, 16) - 1, 0).to_bytes(DIGITS // 2, "big")
    found = await storage._repository.page(None, (before, NO_RECORD))  # noqa: SLF001
    return [key for digest, _ in found if (key := digest.hex())[:length] == prefix]


async def keep_ended_as_services(storage: SqlSessionStorage) -> None:
    """Keep records of the sessions that a storage of a command ends, if the services of its namespace do."""
    await storage._repository.keeping.adopt()  # noqa: SLF001
