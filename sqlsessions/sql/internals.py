"""The parts of a `SqlSessionStorage` for the archive and telemetry: their only way past its public methods."""

from __future__ import annotations

from dataclasses import dataclass

from .engine.database import Database
from .repository import SessionRepository
from .staging import Limits, Staging
from .storage import SqlSessionStorage


@dataclass(frozen=True, slots=True)
class Internals:
    """The parts of a storage.

    Attributes:
        database: Runs work on the database.
        repository: The operations on sessions, by digest.
        staging: Stages and streams the data of large sessions.
        limits: The sizes that decide how data is kept.
    """

    database: Database
    repository: SessionRepository
    staging: Staging
    limits: Limits


def internals_of(storage: SqlSessionStorage) -> Internals:
    """The parts of a storage."""
    return Internals(storage._database, storage._repository, storage._staging, storage._limits)  # noqa: SLF001
