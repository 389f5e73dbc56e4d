"""What every side of the comparison is asked to do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar


class Peer(ABC):
    """A place for sessions.

    Args:
        url: Its database, which has the tables of sqlsessions and nothing else. Peers on one server
            share it; on SQLite, each has a file of its own.

    Attributes:
        server: The kind of server that it needs.
    """

    server: ClassVar[str]

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    async def setup(self, ids: Sequence[str]) -> None:
        """Connect, and create these sessions where a write does not."""

    @abstractmethod
    async def get(self, id: str) -> bytes:
        """Read a session."""

    @abstractmethod
    async def set(self, id: str, data: bytes) -> None:
        """Write a session, durably where the server is."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect; delete what dropping the database does not."""
