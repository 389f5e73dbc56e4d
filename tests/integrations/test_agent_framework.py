"""Microsoft Agent Framework: sessions of agents, and checkpoints by which workflows go on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from agent_framework import (
    AgentSession,
    CheckpointStorage,
    Executor,
    Message,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowContext,
    handler,
)
from agent_framework.exceptions import WorkflowCheckpointException

from sqlsessions import SessionStorageMemory
from sqlsessions.integrations.agent_framework import AgentSessionStore, WorkflowCheckpointStorage
from sqlsessions.testing import ManualClock, SpyStorage


@dataclass
class Task:
    left: list[int]


class Other:
    """A type that the framework allows only if it is told to."""


OTHER = f"{__name__}:Other"


@pytest.fixture
async def closing(storage: SpyStorage) -> AsyncIterator[SpyStorage]:
    yield storage
    await storage.aclose()


@pytest.fixture
def agents(closing: SpyStorage) -> AgentSessionStore:
    return AgentSessionStore(closing)


@pytest.fixture
def checkpoints(closing: SpyStorage) -> WorkflowCheckpointStorage:
    return WorkflowCheckpointStorage(closing, allowed_checkpoint_types=[f"{__name__}:Task"])


def checkpoint(name: str, **fields: Any) -> WorkflowCheckpoint:
    return WorkflowCheckpoint(workflow_name=name, graph_signature_hash="hash", **fields)


async def test_a_session_comes_back(agents: AgentSessionStore) -> None:
    assert await agents.get("a") is None
    session = AgentSession(session_id="inner", service_session_id="theirs")
    session.state["messages"] = [Message(role="user", contents=["hello \ud800 ü"])]
    await agents.set("a", session)
    found = await agents.get("a")
    assert found is not None
    assert found.to_dict() == session.to_dict()
    assert isinstance(found.state["messages"][0], Message)
    found.state["more"] = 1
    await agents.set("a", found)
    again = await agents.get("a")
    assert again is not None
    assert again.state["more"] == 1
    await agents.delete("a")
    await agents.delete("a")
    assert await agents.get("a") is None


async def test_sessions_of_agents_outlast_those_of_users(
    agents: AgentSessionStore, storage: SpyStorage, clock: ManualClock
) -> None:
    await agents.set("a", AgentSession())
    await storage.write_bytes("a user's", b"data", subject="agent-sessions")
    assert await storage.revoke("agent-sessions") == 1
    clock.advance(400 * 24 * 60 * 60)
    assert await agents.get("a") is not None


async def test_a_timeout_of_their_own(clock: ManualClock) -> None:
    storage = SessionStorageMemory(clock=clock)
    agents, checkpoints = AgentSessionStore(storage, ttl=60), WorkflowCheckpointStorage(storage, ttl=60)
    await agents.set("a", AgentSession())
    id = await checkpoints.save(checkpoint("flow"))
    clock.advance(61)
    assert await agents.get("a") is None
    with pytest.raises(WorkflowCheckpointException):
        await checkpoints.load(id)


async def test_an_empty_id_is_refused(agents: AgentSessionStore) -> None:
    for call in (agents.get(""), agents.set("", AgentSession()), agents.delete("")):
        with pytest.raises(ValueError, match="non-empty"):
            await call


async def test_checkpoints_are_found_by_id_and_by_workflow(checkpoints: WorkflowCheckpointStorage) -> None:
    storage: CheckpointStorage = checkpoints
    now = datetime.now(UTC)
    saved = [
        checkpoint("flow", timestamp=(now - timedelta(minutes=age)).isoformat(), state={"age": age})
        for age in (2, 0, 1)
    ]
    for each in [*saved, checkpoint("other"), checkpoint("long " * 100)]:
        assert await storage.save(each) == each.checkpoint_id
        assert await storage.load(each.checkpoint_id) == each
    oldest_first = [saved[0], saved[2], saved[1]]
    assert await storage.list_checkpoints(workflow_name="flow") == oldest_first
    assert await storage.list_checkpoint_ids(workflow_name="flow") == [
        each.checkpoint_id for each in oldest_first
    ]
    assert await storage.get_latest(workflow_name="flow") == saved[1]
    assert len(await storage.list_checkpoints(workflow_name="long " * 100)) == 1
    assert await storage.get_latest(workflow_name="none") is None
    assert await storage.delete(saved[1].checkpoint_id) is True
    assert await storage.delete(saved[1].checkpoint_id) is False
    assert await storage.get_latest(workflow_name="flow") == saved[2]
    with pytest.raises(WorkflowCheckpointException, match="no checkpoint"):
        await storage.load(saved[1].checkpoint_id)


async def test_a_large_checkpoint_comes_back(checkpoints: WorkflowCheckpointStorage) -> None:
    large = checkpoint("flow", state={"text": "ü" * 1_000_000, "bytes": b"\0" * 100_000})
    assert await checkpoints.load(await checkpoints.save(large)) == large


async def test_what_could_not_be_read_back_is_refused(
    checkpoints: WorkflowCheckpointStorage, storage: SpyStorage
) -> None:
    for value in (Other(), lambda: 1):
        with pytest.raises(WorkflowCheckpointException):
            await checkpoints.save(checkpoint("flow", state={"value": value}))
    assert await checkpoints.list_checkpoint_ids(workflow_name="flow") == []
    open_minded = WorkflowCheckpointStorage(storage, allowed_checkpoint_types=[OTHER])
    id = await open_minded.save(checkpoint("flow", state={"value": Other()}))
    assert isinstance((await open_minded.load(id)).state["value"], Other)
    with pytest.raises(WorkflowCheckpointException):
        await checkpoints.load(id)


class Start(Executor):
    @handler
    async def start(self, limit: int, context: WorkflowContext[Task]) -> None:
        await context.send_message(Task(list(range(1, limit + 1))))


class Worker(Executor):
    """Squares a number in each step."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.squares: list[int] = []

    @handler
    async def work(self, task: Task, context: WorkflowContext[Task, list[int]]) -> None:
        self.squares.append(task.left.pop(0) ** 2)
        if task.left:
            await context.send_message(task)
        else:
            await context.yield_output(self.squares)

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"squares": self.squares}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self.squares = state["squares"]


async def test_a_workflow_goes_on_from_its_checkpoint(checkpoints: WorkflowCheckpointStorage) -> None:
    def built() -> Any:
        start, worker = Start(id="start"), Worker(id="worker")
        builder = WorkflowBuilder(name="squares", start_executor=start, checkpoint_storage=checkpoints)
        return builder.add_edge(start, worker).add_edge(worker, worker).build()

    steps = 0
    async for event in built().run(message=5, stream=True):
        steps += event.type == "superstep_completed"
        if steps == 3:
            break  # the process ends
    latest = await checkpoints.get_latest(workflow_name="squares")
    assert latest is not None
    result = await built().run(checkpoint_id=latest.checkpoint_id)
    assert result.get_outputs() == [[1, 4, 9, 16, 25]]
    assert len(await checkpoints.list_checkpoint_ids(workflow_name="squares")) > 3
