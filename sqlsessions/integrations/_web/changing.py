"""Changes of a session that depend on what is stored, such as a counter's: applied until none comes in between."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing
from contextvars import ContextVar
from inspect import isawaitable
from typing import Any, Protocol, TypeVar

from ...errors import InvalidArgument, InvalidArgumentType, SessionConflict, SessionNotFound
from ...info import SessionInfo, Snapshot
from ...storage import ManagedSessionStorage
from .emptied import ENDED
from .merging import LONGEST_WAIT, Attempts
from .moves import Moves
from .payloads import Changes, Payloads
from .portal import run
from .queues import SessionQueues
from .session import Session
from .unreadable import load_intact

R = TypeVar("R")

Data = dict[str, Any]
Write = Callable[[Session, str, Data, SessionInfo], Awaitable[bytes]]

_inside: ContextVar[bool] = ContextVar("sqlsessions_inside_change", default=False)


class Sessions(Protocol):
    """What `Changing` needs of a `SessionManager`."""

    storage: ManagedSessionStorage

    async def commit(self, session: Session) -> None:
        """Write what a request has changed."""

    async def end(self, session: Session) -> None:
        """End a session."""


class Changing:
    """Writes changes that depend on what is stored.

    Args:
        payloads: Encodes and decodes data.
        moves: Finds sessions whose id was changed.
        queues: Where changes of one session wait for each other, which need not conflict then.
        sessions: The manager of the sessions.
        write: Writes data over a version of a session, and gives its bytes.
        is_empty: Whether a session's data is not worth storing.
    """

    def __init__(
        self,
        payloads: Payloads,
        moves: Moves,
        queues: SessionQueues,
        sessions: Sessions,
        write: Write,
        is_empty: Callable[[Data], bool],
    ) -> None:
        self._payloads = payloads
        self._moves = moves
        self._queues = queues
        self._sessions = sessions
        self._write = write
        self._is_empty = is_empty

    async def attempts(self, session: Session, *, fresh: bool = False) -> AsyncGenerator[Data]:
        """Gives the data of a session as it is stored, to be changed, until a write of the change holds.

        What the request changed before is written first. A new session is begun unless it stays empty, and one
        that a change empties ends.

        Args:
            session: The session, which is loaded.
            fresh: Whether it was loaded just now, for this change.

        Raises:
            InvalidArgument: If this is called within a change.
            SessionNotFound: If the session has ended, or another user has it now.
            StorageUnavailable: If others used or changed it for too long.
        """
        if _inside.get():  # which would wait for itself
            raise InvalidArgument("the function of a change must not change the session in another way")
        await self._sessions.commit(session)
        session.mark_accessed()
        key = f"new {id(session)}" if session.info is None else session.info.key
        async with self._queues.turn(key, LONGEST_WAIT) as waited:
            if session.info is not None:
                async with aclosing(self._over(session, fresh=fresh and not waited)) as stored:
                    async for data in stored:
                        yield data
            elif session.state.ended:
                raise SessionNotFound("the session has ended")
            elif session.state.moved:
                raise SessionNotFound(
                    "the session ended, or has an id that another response gives the browser"
                )
            else:
                before, data = session.plain(), session.plain()
                raw = self._payloads.encode(before, session.state)
                yield data
                session.fill(self._payloads.changes(raw, session.plain()).apply(data))
                try:
                    await self._sessions.commit(session)
                except BaseException:
                    session.fill(before)
                    raise

    async def _over(self, session: Session, *, fresh: bool) -> AsyncGenerator[Data]:
        """The same, for a session that is stored.

        Args:
            session: The session.
            fresh: Whether it is likely to be stored as it was loaded.
        """
        state, info = session.state, session.info
        assert info is not None
        assert state.id is not None
        found: Snapshot | None = Snapshot(state.raw, info) if fresh and not state.vanished else None
        attempts = Attempts()
        while True:
            try:
                if found is None and not state.vanished:
                    found = await load_intact(self._sessions.storage, state.id)
                    if found is not None and found.data == ENDED:
                        raise SessionNotFound("the session is being ended")
                    if found is None:  # it has another id, which only another response gives the browser
                        state.vanished, state.cookie_due = True, False
                if found is None and (found := await self._moves.load(state, info.subject)) is None:
                    raise SessionNotFound("the session ended meanwhile")
                data = self._payloads.decode(found, state)
                was_empty = self._is_empty(data)
                yield data
                state.emptied = self._is_empty(data) and not was_empty
                if state.vanished:
                    payload = ENDED if state.emptied else self._payloads.encode(data, state)
                    await self._sessions.storage.write_key(
                        found.info.key, payload, if_match=found.info.version
                    )
                else:
                    payload = await self._write(session, state.id, data, found.info)
            except SessionConflict:
                found = None
                await attempts.failed()
            else:
                break
        unsaved = self._unsaved(session)
        if state.emptied:
            await self._sessions.end(session)
        else:
            state.stored(payload)
        session.fill(unsaved.apply(data))

    def _unsaved(self, session: Session) -> Changes:
        """What another task of the request has changed meanwhile."""
        data = session.plain()
        if self._payloads.unchanged(self._payloads.encode(data, session.state), session.state):
            return Changes()
        return self._payloads.changes(session.state.raw, data)


async def apply(attempts: AsyncGenerator[Data], function: Callable[[Data], Any]) -> Any:
    """Apply a function, which may be async, in each attempt; gives what it returned in the last one."""
    async with aclosing(attempts):
        async for data in attempts:
            inside = _inside.set(True)
            try:
                result = function(data)
                if isawaitable(result):
                    result = await result
            finally:
                _inside.reset(inside)
    return result


def apply_blocking(attempts: AsyncGenerator[Data], function: Callable[[Data], R]) -> R:
    """`apply` for code that cannot await: the function is called in the caller's thread.

    Raises:
        InvalidArgumentType: If the function is async.
    """
    data: Data | None

    async def attempt() -> Data | None:
        return await anext(attempts, None)

    try:
        while (data := run(attempt())) is not None:
            inside = _inside.set(True)
            try:
                result = function(data)
            finally:
                _inside.reset(inside)
            if isinstance(result, Coroutine):
                result.close()
                raise InvalidArgumentType("the function must not be async, since this call cannot await")
    finally:
        run(attempts.aclose())
    return result
