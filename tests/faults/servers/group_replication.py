"""A MySQL Group Replication cluster of three members, of which one or each takes writes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pymysql
from sqlalchemy import make_url

from .mysql import MySQL
from .process import folder, free_port, until

MEMBERS = 3
ONLINE_WITHIN = 120.0  # seconds

ROLE = (
    "SELECT member_role FROM performance_schema.replication_group_members"
    " WHERE member_id = @@server_uuid AND member_state = 'ONLINE'"
)
ONLINE = "SELECT count(*) FROM performance_schema.replication_group_members WHERE member_state = 'ONLINE'"


class Member(MySQL):
    """A server that can join the group."""

    def __init__(self, folder: Path, number: int, group: int, seeds: str, **settings: object) -> None:
        own = {
            "performance_schema": "ON",  # which tells of the group
            "sync_binlog": 0,  # what is killed loses nothing by it; a machine would
            "innodb_flush_log_at_trx_commit": 2,
            "server_id": number + 1,
            "gtid_mode": "ON",
            "enforce_gtid_consistency": "ON",
            "report_host": "127.0.0.1",
            "plugin_load_add": "group_replication.so",
            "group_replication_group_name": "5e551045-0000-4000-8000-000000000000",
            "group_replication_start_on_boot": "OFF",
            "group_replication_local_address": f"127.0.0.1:{group}",
            "group_replication_group_seeds": seeds,
            "group_replication_recovery_get_public_key": "ON",
            "group_replication_message_cache_size": 128 << 20,  # the least there is, instead of a GiB
        }
        super().__init__(folder, **(own | settings))
        self.settings["report_port"] = str(self.port)

    def join(self, *, first: bool = False) -> None:
        """Join the group, or begin it, and wait until it has what the others have."""
        self.execute(
            "CHANGE REPLICATION SOURCE TO SOURCE_USER = 'root' FOR CHANNEL 'group_replication_recovery'"
        )
        for statement in ("SET GLOBAL group_replication_bootstrap_group = ON",) if first else ():
            self.execute(statement)
        self.execute("START GROUP_REPLICATION", "SET GLOBAL group_replication_bootstrap_group = OFF")
        until(lambda: self.role() is not None, "a member is online", ONLINE_WITHIN)

    def role(self) -> str | None:
        """PRIMARY or SECONDARY; None unless it is online."""
        try:
            return self.value(ROLE)
        except pymysql.MySQLError:
            return None


class Group:
    """A cluster.

    Attributes:
        members: Its servers.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        groups = [free_port() for _ in range(MEMBERS)]
        seeds = ",".join(f"127.0.0.1:{group}" for group in groups)
        self.members = [
            Member(folder / str(number), number, group, seeds, **settings)
            for number, group in enumerate(groups)
        ]

    def primary(self) -> Member:
        """The member that takes writes, or the first one that does; waits until there is one."""
        found: list[Member] = []

        def there_is() -> bool:
            found[:] = [member for member in self.members if member.running and member.role() == "PRIMARY"]
            return bool(found)

        until(there_is, "there is a primary", ONLINE_WITHIN)
        return found[0]

    def create_database(self) -> list[str]:
        """The URLs, one by each member, of a new, empty database."""
        name = make_url(self.primary().create_database()).database
        return [f"{member.url}/{name}" for member in self.members]

    def restart_dead(self) -> None:
        """Start what was killed, let it join the others, and wait until it has what they have."""
        for member in self.members:
            if not member.running:
                member.start()
                member.join()
        until(lambda: self.primary().value(ONLINE) == str(MEMBERS), "all are online", ONLINE_WITHIN)

    @contextmanager
    def started(self) -> Iterator[Group]:
        """It runs meanwhile."""
        with ExitStack() as running:
            for member in self.members:
                running.enter_context(member.started())
                member.join(first=member is self.members[0])
            yield self


@contextmanager
def group(**settings: object) -> Iterator[Group]:
    """A cluster of three members that runs meanwhile.

    Args:
        settings: Of each member, as in ``my.cnf``.
    """
    with folder() as path, Group(path, **settings).started() as cluster:
        yield cluster
