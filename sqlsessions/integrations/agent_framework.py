"""Sessions of agents and checkpoints of workflows of the Microsoft Agent Framework, kept in a session storage."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Iterable
from datetime import datetime
from hashlib import sha256
from typing import Any, cast

from ..errors import missing

try:
    from agent_framework import AgentSession, SessionStore, WorkflowCheckpoint
except ModuleNotFoundError as error:
    raise missing(error, "sqlsessions.integrations.agent_framework", "agent-framework") from error
from agent_framework._workflows._checkpoint_encoding import decode_checkpoint_value, encode_checkpoint_value
from agent_framework.exceptions import WorkflowCheckpointException

from ..info import SessionInfo
from ..storage import ManagedSessionStorage
from ._web.arguments import checked_storage
from ._web.subjects import RESERVED

__all__ = ["AgentSessionStore", "WorkflowCheckpointStorage"]

_AGENTS = "agent-sessions"
_WORKFLOW = "workflow:"
_LONGEST = 200  # characters of a workflow's name in a subject, which has room for 255
_AT_ONCE = 32  # checkpoints that are read at the same time

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the framework warns of its stage where the class is only derived from

    class AgentSessionStore(SessionStore):
        """Keeps the sessions of agents, wherever the framework takes a ``SessionStore``.

        A session is stored as JSON, by its own ``to_dict``; of several writers at once, the last one wins. The
        framework's interface is experimental in version 1.23. The storage stays the caller's and is not closed. Every
        method may raise `StorageUnavailable`.

        Args:
            storage: Where the sessions are kept.
            ttl: Seconds after its last write that a session ends; None is never, which is the default.

        Raises:
            InvalidArgumentType: If the storage is not a `ManagedSessionStorage`.
        """

        def __init__(self, storage: ManagedSessionStorage, *, ttl: float | None = None) -> None:
            self._storage = checked_storage(storage)
            self._ttl = ttl

        async def get(self, session_id: str) -> AgentSession | None:
            """The session as it was stored; None if there is none.

            Raises:
                ValueError: If the id is empty.
            """
            self.validate_session_id(session_id)
            snapshot = await self._storage.load(_id(_AGENTS, session_id))
            return None if snapshot is None else AgentSession.from_dict(json.loads(snapshot.data))

        async def set(self, session_id: str, session: AgentSession) -> None:
            """Store a session in the place of the one before.

            Raises:
                ValueError: If the id is empty.
                TypeError: If the session's state holds what is neither JSON nor registered with the framework.
            """
            self.validate_session_id(session_id)
            data = json.dumps(session.to_dict(), ensure_ascii=False).encode("utf-8", "surrogatepass")
            await self._storage.write_bytes(
                _id(_AGENTS, session_id), data, ttl=self._ttl, max_age=None, subject=f"{RESERVED}{_AGENTS}"
            )

        async def delete(self, session_id: str) -> None:
            """End a session, if there is one.

            Raises:
                ValueError: If the id is empty.
            """
            self.validate_session_id(session_id)
            await self._storage.invalidate(_id(_AGENTS, session_id))


class WorkflowCheckpointStorage:
    """Keeps the checkpoints of workflows: a ``CheckpointStorage`` of the framework.

    A checkpoint is JSON in the framework's own encoding, which holds what is not JSON as a pickle. So let nobody else
    write to the tables, or put the storage into an `EncryptedStorage`, which refuses what others wrote. A workflow's
    checkpoints have a subject of their own, named after it, that no user can have. The storage stays the caller's and
    is not closed. Every method may raise `StorageUnavailable`.

    Args:
        storage: Where the checkpoints are kept.
        allowed_checkpoint_types: Types that a checkpoint may hold besides those that the framework allows, each as
            ``"module:qualname"``.
        ttl: Seconds after which a checkpoint is deleted; None is never, which is the default.

    Raises:
        InvalidArgumentType: If the storage is not a `ManagedSessionStorage`.
    """

    def __init__(
        self,
        storage: ManagedSessionStorage,
        *,
        allowed_checkpoint_types: Iterable[str] = (),
        ttl: float | None = None,
    ) -> None:
        self._storage = checked_storage(storage)
        self._allowed = frozenset(allowed_checkpoint_types)
        self._ttl = ttl

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        """Store a checkpoint; gives its id.

        Raises:
            WorkflowCheckpointException: If it could not be read back: it holds a type that is not allowed, or that
                cannot be pickled.
        """
        try:
            encoded = encode_checkpoint_value(checkpoint.to_dict())
            self._decoded(encoded)
        except WorkflowCheckpointException:
            raise
        except Exception as error:
            raise WorkflowCheckpointException("the checkpoint holds a value that cannot be stored") from error
        data = json.dumps(encoded, ensure_ascii=False).encode("utf-8", "surrogatepass")
        await self._storage.write_bytes(
            _id(_WORKFLOW, checkpoint.checkpoint_id),
            data,
            ttl=self._ttl,
            max_age=None,
            subject=_subject(checkpoint.workflow_name),
        )
        return checkpoint.checkpoint_id

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """The checkpoint as it was stored.

        Raises:
            WorkflowCheckpointException: If there is none with this id, or it holds a type that is not allowed.
        """
        snapshot = await self._storage.load(_id(_WORKFLOW, checkpoint_id))
        if snapshot is None:
            raise WorkflowCheckpointException("no checkpoint has this id")
        return self._decoded(json.loads(snapshot.data))

    async def list_checkpoints(self, *, workflow_name: str) -> list[WorkflowCheckpoint]:
        """A workflow's checkpoints, oldest first.

        Raises:
            WorkflowCheckpointException: If one holds a type that is not allowed.
        """
        return [self._decoded(encoded) for encoded in await self._encoded(workflow_name)]

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        """The ids of a workflow's checkpoints, oldest first."""
        return [encoded["checkpoint_id"] for encoded in await self._encoded(workflow_name)]

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        """A workflow's newest checkpoint, by the time that it names; None if there is none.

        Raises:
            WorkflowCheckpointException: If it holds a type that is not allowed.
        """
        found = await self._encoded(workflow_name)
        return self._decoded(found[-1]) if found else None

    async def delete(self, checkpoint_id: str) -> bool:
        """Delete a checkpoint; gives whether there was one."""
        return await self._storage.invalidate_key(self._storage.digest(_id(_WORKFLOW, checkpoint_id)).hex())

    def _decoded(self, encoded: Any) -> WorkflowCheckpoint:
        return WorkflowCheckpoint.from_dict(decode_checkpoint_value(encoded, allowed_types=self._allowed))

    async def _encoded(self, workflow_name: str) -> list[dict[str, Any]]:
        """A workflow's checkpoints as they are stored, by their times."""
        infos = [info async for info in self._storage.sessions(_subject(workflow_name))]
        found: list[dict[str, Any]] = []
        for start in range(0, len(infos), _AT_ONCE):
            read = await asyncio.gather(*map(self._read, infos[start : start + _AT_ONCE]))
            found += [encoded for encoded in read if encoded is not None]
        return sorted(found, key=lambda encoded: datetime.fromisoformat(encoded["timestamp"]))

    async def _read(self, info: SessionInfo) -> dict[str, Any] | None:
        snapshot = await self._storage.load_key(info.key)
        return None if snapshot is None else cast("dict[str, Any]", json.loads(snapshot.data))


def _id(kind: str, name: str) -> str:
    """The session id for an id of the framework, which may be longer."""
    return sha256(f"{kind}:{name}".encode(errors="surrogatepass")).hexdigest()


def _subject(workflow_name: str) -> str:
    if len(workflow_name) > _LONGEST or not workflow_name.isprintable():
        workflow_name = sha256(workflow_name.encode(errors="surrogatepass")).hexdigest()
    return f"{RESERVED}{_WORKFLOW}{workflow_name}"
