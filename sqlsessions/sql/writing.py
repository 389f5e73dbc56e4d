"""Writes of sessions: their data, kept in the row or staged in chunks, and touches."""

from __future__ import annotations

from functools import partial

from ..channels import Bytes, Provider, provide, providing
from ..errors import SessionChanged, SessionConflict
from ..events import Events
from ..info import SessionInfo
from ..records import Options, Record
from ..storage import Default, Keep
from .repository import SessionRepository
from .staging import Incoming, Limits, Staging


class Writer:
    """Writes and touches sessions by digest, and reports those that are new, and those that ended for them.

    Args:
        repository: Writes what is small, and points sessions at what was staged.
        staging: Stages what is large.
        limits: The sizes that tell one from the other.
        events: Told of new sessions.
    """

    def __init__(
        self, repository: SessionRepository, staging: Staging, limits: Limits, events: Events
    ) -> None:
        self._repository = repository
        self._staging = staging
        self._limits = limits
        self._events = events
        self._at_once = limits.at_once

    async def write(self, digest: bytes, provider: Provider, options: Options) -> SessionInfo:
        """Write what a provider gives."""
        evicted: list[bytes] = []
        new_version = partial(self._repository.staging_version, digest, options)
        incoming = Incoming(self._staging, digest, new_version, self._limits)
        try:
            await provide(provider, incoming.add)
            await incoming.finish()
        except BaseException:
            incoming.discard()
            raise
        if (data := incoming.inline) is not None:
            record = await self._repository.write_inline(digest, data, options, evicted)
            return await self._written(digest, record, evicted)
        version, size, staged = incoming.version, incoming.size, incoming.chunks
        try:
            record = await self._repository.replace(
                digest, options, evicted, version=version, size=size, staged=staged
            )
        except (SessionConflict, SessionChanged):
            incoming.discard()
            raise
        return await self._written(digest, record, evicted)

    async def write_bytes(self, digest: bytes, data: Bytes, options: Options) -> SessionInfo:
        """Write data at hand."""
        if isinstance(data, (bytes, bytearray)) and len(data) <= self._at_once:
            evicted: list[bytes] = []
            record = await self._repository.write_inline(digest, bytes(data), options, evicted)
            quiet = record.created_at != record.updated_at and not evicted
            return record.info(digest) if quiet else await self._written(digest, record, evicted)
        return await self.write(digest, providing(data), options)

    async def touch(self, digest: bytes, idle: int | Default | Keep | None) -> SessionInfo | None:
        """Touch a session, if it lives."""
        repository = self._repository
        if (record := await repository.record(digest)) is None:
            return None
        touched = await repository.touch(digest, record, idle)
        return None if touched is None else touched.info(digest)

    async def _written(self, digest: bytes, record: Record, evicted: list[bytes]) -> SessionInfo:
        info = record.info(digest)
        await self._events.invalidated(evicted)
        if record.created_at == record.updated_at:
            await self._events.created(info)
        return info
