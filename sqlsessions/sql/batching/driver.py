"""The interface of drivers, which carry out batches of operations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from ..engine.database import Database
from .operations import Operation, Read, Row

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Chunks:
    """Some chunks of a large session: from ``first`` to before ``end``."""

    version: int
    digest: bytes
    first: int
    end: int

    @property
    def values(self) -> tuple[int, bytes, int, int]:
        """The parameters of `READ_CHUNKS`, in the order of ``names``."""
        return self.version, self.digest, self.first, self.end

    names: ClassVar = ("version", "id", "first", "end")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk to stage."""

    version: int
    digest: bytes
    seq: int
    data: bytes = field(repr=False)

    @property
    def values(self) -> tuple[int, bytes, int, bytes]:
        """The parameters of `WRITE_CHUNK`, in the order of ``names``."""
        return self.version, self.digest, self.seq, self.data

    names: ClassVar = ("version", "id", "seq", "data")


class Driver(ABC, Generic[C]):
    """Carries out batches over connections of its own kind.

    What a batch writes is one statement or one transaction: all of it or nothing.

    Args:
        database: Where the connections come from.

    Attributes:
        conditional: Whether a write on condition that there is no session is done if it can be. One on condition of a
            version always is, if the old session is small, too.
        inline_reads: Whether a lone read is carried out in its caller's task, so that a cancellation cuts it off.
    """

    conditional: ClassVar[bool] = True
    inline_reads: ClassVar[bool] = True

    def __init__(self, database: Database) -> None:
        self._database = database
        self._dialect = database.dialect

    @abstractmethod
    def checkout(self, *, writes: bool) -> AbstractAsyncContextManager[C]:
        """A connection out of the pool."""

    @abstractmethod
    async def read(self, connection: C, reads: Sequence[Read]) -> list[Row | None]:
        """The rows of some sessions, in the order of the reads."""

    @abstractmethod
    async def write(self, connection: C, changes: Sequence[Operation]) -> list[Any]:
        """The results of some changes to different sessions, in their order; see their classes."""

    @abstractmethod
    async def read_chunks(self, connection: C, wanted: Chunks) -> Sequence[Row]:
        """Chunks as rows of ``seq`` and data, in order."""

    @abstractmethod
    async def write_chunk(self, connection: C, chunk: Chunk) -> None:
        """Stage a chunk."""
