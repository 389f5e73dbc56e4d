"""What the service keeps in sessions, and how.

A log-in is a small JSON session under the cookie's id, with the subject ``user:<name>``. The file of
a log-in is a session of its own, so that counting never rewrites it: under the id ``file:<key of the
log-in>``, with the subject ``file:<name>``.

- The key, unlike the cookie, is known of every listed session, so that ending one ends its file.
- No cookie of the form that `Logins.find` takes can name a file, so that nobody logs in with an
  upload of their own making.
- The subjects differ, so that files are not listed as log-ins, and both kinds can be revoked.
- The file's name and type are its first line: they change with its content, in one write.
"""

import asyncio
import hmac
import json
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlsessions import (
    ByteReadChannel,
    ByteWriteChannel,
    ManagedSessionStorage,
    SessionConflict,
    SessionInfo,
    SessionNotFound,
    Snapshot,
    StorageUnavailable,
    new_session_id,
)

R = TypeVar("R")
COUNT_ATTEMPTS = 100
_COOKIE = re.compile(r"[A-Za-z0-9_-]{43}")  # the form of new_session_id()


class NotLoggedIn(Exception):
    """The browser sent no id, or one of no live log-in."""


@dataclass(frozen=True, slots=True)
class Login:
    """One live log-in.

    Attributes:
        id: The session id, a credential: only ever in the cookie.
        key: Names the log-in on pages and in forms.
        user: The name that was logged in with.
        counter: How often this log-in has counted.
    """

    id: str = field(repr=False)
    key: str
    user: str
    counter: int

    @property
    def csrf(self) -> str:
        """The secret of this log-in's forms, which no other site can know."""
        return hmac.digest(self.id.encode(), b"csrf", "sha256").hex()


@dataclass(frozen=True, slots=True)
class Device:
    """A log-in among those of its user.

    Attributes:
        info: What the storage knows of it.
        name: What it was begun with.
        size: Bytes of its data and its file.
    """

    info: SessionInfo
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class File:
    """What is known about an uploaded file; its size is in bytes."""

    name: str
    type: str
    size: int


class Logins:
    """The log-ins in a storage."""

    def __init__(self, storage: ManagedSessionStorage) -> None:
        self._storage = storage

    async def start(self, user: str, device: str) -> str:
        """Log in.

        Always under a fresh id, never one that the browser brought: no session fixation.

        Args:
            user: Who logs in.
            device: A name for what they log in with.

        Returns:
            The id, for the cookie.
        """
        fresh = new_session_id()
        state = _state({"counter": 0, "device": device})
        await self._storage.write_bytes(fresh, state, subject=f"user:{user}", if_match=0)
        return fresh

    async def find(self, id: str) -> Login:
        """The log-in of a cookie, kept alive by being used.

        Raises:
            NotLoggedIn: If there is none.
        """
        if not _COOKIE.fullmatch(id):
            raise NotLoggedIn
        snapshot = await self._load(id)
        await self._storage.touch(id)
        await self._storage.touch(_file_id(snapshot.info.key))
        kind, _, user = (snapshot.info.subject or "").partition(":")
        if kind != "user":
            raise NotLoggedIn
        return Login(id, snapshot.info.key, user, json.loads(snapshot.data)["counter"])

    async def count(self, login: Login) -> None:
        """Add one to the counter; whoever else counts at the same time, none is lost.

        Raises:
            NotLoggedIn: If the log-in has ended, which a conditional write never brings back.
        """
        for attempt in range(COUNT_ATTEMPTS):
            snapshot = await self._load(login.id)
            data = json.loads(snapshot.data)
            state = _state(data | {"counter": data["counter"] + 1})
            try:
                await self._storage.write_bytes(login.id, state, if_match=snapshot.info.version)
            except SessionConflict:
                await asyncio.sleep(random.uniform(0, 0.002 * min(attempt, 10)))  # noqa: S311 - no secret
            else:
                return
        raise StorageUnavailable("too many requests are counting at once")

    def sessions(self, user: str) -> AsyncIterator[SessionInfo]:
        """The user's log-ins, newest first."""
        return self._storage.sessions(f"user:{user}")

    async def devices(self, user: str) -> AsyncIterator[Device]:
        """The same, with what they were begun with, and what they hold."""
        async for info in self.sessions(user):
            if (snapshot := await self._storage.load_key(info.key)) is None:
                continue  # it ended meanwhile
            file = await self._storage.info(_file_id(info.key))
            name = json.loads(snapshot.data).get("device", "A browser")
            yield Device(info, name, info.size + (file.size if file else 0))

    async def end(self, user: str, key: str) -> bool:
        """End one of the user's log-ins, and its file.

        Returns:
            Whether the user had a log-in of this key.
        """
        if key not in {info.key async for info in self.sessions(user)}:
            return False
        # The log-in first, here and below: `write_file` relies on it.
        await self._storage.invalidate_key(key)
        await self._storage.invalidate(_file_id(key))
        return True

    async def end_all(self, user: str) -> None:
        """End all of the user's log-ins, and their files."""
        await self._storage.revoke(f"user:{user}")
        await self._storage.revoke(f"file:{user}")

    async def end_others(self, login: Login) -> None:
        """End all of the user's log-ins but this, and their files."""
        await self._storage.revoke(f"user:{login.user}", keep=login.id)
        await self._storage.revoke(f"file:{login.user}", keep=_file_id(login.key))

    async def write_file(self, login: Login, name: str, type: str, content: AsyncIterator[bytes]) -> None:
        """Replace the log-in's file by content that is still arriving, whole or not at all.

        Raises:
            NotLoggedIn: If the log-in ended meanwhile; then the file is gone too.
        """

        async def provider(channel: ByteWriteChannel) -> None:
            await channel.write(json.dumps({"name": name, "type": type}).encode() + b"\n")
            async for piece in content:
                await channel.write(piece)

        await self._storage.write(_file_id(login.key), provider, subject=f"file:{login.user}")
        if await self._storage.touch(login.id) is None:
            await self._storage.invalidate(_file_id(login.key))
            raise NotLoggedIn

    async def read_file(self, login: Login, consumer: Callable[[File, ByteReadChannel], Awaitable[R]]) -> R:
        """Let a consumer read the log-in's file.

        Raises:
            SessionNotFound: If it has none.
        """

        async def behind_head(channel: ByteReadChannel) -> R:
            assert channel.info is not None
            head = await channel.readline()
            file = File(**json.loads(head), size=channel.info.size - len(head))
            return await consumer(file, channel)

        return await self._storage.read(_file_id(login.key), behind_head)

    async def file(self, login: Login) -> File | None:
        """What is known about the log-in's file, without reading its content."""

        async def only_head(file: File, _: ByteReadChannel) -> File:
            return file

        try:
            return await self.read_file(login, only_head)
        except SessionNotFound:
            return None

    async def _load(self, id: str) -> Snapshot:
        if (snapshot := await self._storage.load(id)) is None:
            raise NotLoggedIn
        return snapshot


def _state(data: dict[str, Any]) -> bytes:
    return json.dumps(data).encode()


def _file_id(key: str) -> str:
    return f"file:{key}"
