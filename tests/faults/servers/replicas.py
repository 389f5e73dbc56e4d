"""A PostgreSQL server with a streaming replica that can be made to lag."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from .postgres import BINARIES, Postgres
from .process import folder, program, until


class Replica(Postgres):
    """Follows a primary, asynchronously."""

    def __init__(self, folder: Path, primary: Postgres) -> None:
        super().__init__(folder)
        self.settings["hot_standby_feedback"] = "on"
        self._primary = primary

    def prepare(self) -> None:
        """Copy the primary."""
        copy = program("pg_basebackup", "postgresql", BINARIES)
        source = ["-h", "127.0.0.1", "-p", str(self._primary.port), "-U", "postgres"]
        self.run(copy, *source, "-D", str(self.data), "-R", "-c", "fast", "--no-sync")


class Replicated:
    """A primary and its replica.

    Attributes:
        primary: Takes writes.
        replica: Can only be read, and may be behind.
        url: The primary's.
        replica_url: The replica's.
    """

    def __init__(self, primary: Postgres, replica: Replica) -> None:
        self.primary = primary
        self.replica = replica
        self.url = primary.url
        self.replica_url = replica.url

    def create_database(self) -> tuple[str, str]:
        """The URLs of a new, empty database, on the primary and on the replica."""
        url = self.primary.create_database()
        self.catch_up()
        return url, make_url(url).set(port=self.replica.port).render_as_string(hide_password=False)

    def pause_replay(self) -> None:
        """Let the replica receive, but not show, what the primary commits from now on."""
        self.catch_up()
        self.replica.execute("SELECT pg_wal_replay_pause()")
        until(lambda: self.replica.value("SELECT pg_get_wal_replay_pause_state()") == "paused", "paused")

    def resume_replay(self) -> None:
        """Let the replica catch up, and wait for that."""
        self.replica.execute("SELECT pg_wal_replay_resume()")
        self.catch_up()

    def catch_up(self) -> None:
        """Wait until the replica shows what the primary has committed so far."""
        position = self.primary.value("SELECT pg_current_wal_lsn()")
        there = f"SELECT pg_last_wal_replay_lsn() >= '{position}'::pg_lsn"
        until(lambda: self.replica.value(there) == "True", "the replica has caught up")


@contextmanager
def replicated(**settings: object) -> Iterator[Replicated]:
    """A primary with a replica that run meanwhile.

    Args:
        settings: Of the primary, as in ``postgresql.conf``.
    """
    with (
        folder() as path,
        Postgres(path / "primary", **settings).started() as primary,
        Replica(path / "replica", primary).started() as replica,
    ):
        yield Replicated(primary, replica)
