"""Findings about a database, and the interface of the diagnosis for each dialect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import URL, text
from sqlalchemy.ext.asyncio import AsyncConnection


class State(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    NOTE = "note"  # worth knowing; all works
    PROBLEM = "problem"  # data may be lost, work may fail or be slow


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check.

    Attributes:
        check: Name of the check.
        state: Severity.
        seen: Observation.
        advice: Remedy; None if none is needed.
    """

    check: str
    state: State
    seen: str
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How services use the database, and which checks to run.

    Attributes:
        url: The database.
        pool_size: Connections of each storage.
        processes: Number of processes with a storage.
        thorough: Whether to read every page of a SQLite database.
        security: Whether to look at what keeps sessions from others.
    """

    url: URL
    pool_size: int = 5
    processes: int = 1
    thorough: bool = False
    security: bool = False


class Diagnosis(ABC):
    """Checks for one dialect; they only read."""

    clock: ClassVar[str | None]
    """A query for the server's time, in microseconds since 1970 UTC; None if it is the host's."""
    version: ClassVar[str]
    """A query for the server's name and version."""

    @abstractmethod
    def settings(self, connection: AsyncConnection, plan: Plan) -> AsyncIterator[Finding]:
        """Check the server's settings."""

    @abstractmethod
    def tables(self, connection: AsyncConnection, plan: Plan) -> AsyncIterator[Finding]:
        """Check the tables of sqlsessions, which must exist."""

    @abstractmethod
    def access(self, connection: AsyncConnection, plan: Plan) -> AsyncIterator[Finding]:
        """Check how the connection is protected, and what its user may do."""

    @abstractmethod
    async def disk_bytes(self, connection: AsyncConnection) -> int | None:
        """The size of the tables on disk, with indexes; None if the database does not report it."""


def durable(check: str, value: object, good: tuple[str, ...], risk: str) -> Finding:
    """Check a setting that costs durability unless it has one of the good values."""
    if str(value).lower() in good:
        return Finding(check, State.OK, str(value))
    return Finding(check, State.PROBLEM, f"{value}: {risk}", f"Set {check} to {good[0]}.")


def connections(plan: Plan, limit: int, name: str, used: int | None = None) -> Finding:
    """Check the connections that services may open against the server's limit."""
    most = plan.pool_size * plan.processes
    each = "" if plan.processes == 1 else f", {plan.pool_size} for each of {plan.processes} processes"
    seen = f"up to {most}{each}"
    seen += f", of {limit} that the server allows"
    if used is not None:
        seen += f"; {used} in use now"
    if most > limit:
        advice = f"Raise {name}, use a connection pooler, or lower pool_size."
        return Finding("connections", State.PROBLEM, seen, advice)
    if most > 0.8 * limit:
        return Finding(
            "connections", State.NOTE, seen, "Few are left for migrations, backups and administrators."
        )
    return Finding("connections", State.OK, seen)


def rights(missing: Iterable[tuple[str, str] | Sequence[str]]) -> Finding:
    """Report the rights that this user lacks on the tables: pairs of a table and rights."""
    lacks = [f"{which} on {table}" for table, which in missing]
    if lacks:
        seen = f"this user lacks {'; '.join(lacks)}"
        return Finding("rights", State.PROBLEM, seen, "A service needs them: GRANT them to its user.")
    return Finding("rights", State.OK, "all that a service needs")


def encrypted(seen: str | None, *, local: bool) -> Finding:
    """Check the encryption of a connection, of which ``seen`` is the protocol or the cipher; None if it has none."""
    if seen:
        return Finding("TLS", State.OK, f"{seen}; whether the server's certificate is verified, the URL says")
    if local:
        return Finding("TLS", State.OK, "none, within this host")
    advice = "Let the URL ask for TLS, and verify the server's certificate."
    return Finding("TLS", State.PROBLEM, "none: who reads the network reads the sessions", advice)


def privileges(*, administers: bool, changes_tables: bool) -> Finding:
    """Check what the user of the connection may do besides reading and writing rows."""
    advice = (
        "Let another user own the tables and run `sqlsessions upgrade`; the service needs SELECT, INSERT, "
    )
    advice += "UPDATE and DELETE on them."
    if administers:
        return Finding("privileges", State.PROBLEM, "this user administers the server", advice)
    if changes_tables:
        return Finding("privileges", State.NOTE, "this user may change and drop the tables", advice)
    return Finding("privileges", State.OK, "this user may read and write rows, and no more")


async def row(connection: AsyncConnection, query: str, **parameters: Any) -> tuple[Any, ...] | None:
    """The first row of a query."""
    found = (await connection.execute(text(query), parameters)).first()
    return None if found is None else tuple(found)


async def scalar(connection: AsyncConnection, query: str, **parameters: Any) -> Any:
    """The first value of a query."""
    return (await connection.execute(text(query), parameters)).scalar()
