"""`LitestarStore`: Litestar's key/value store over a session storage."""

from __future__ import annotations

import time
from datetime import timedelta
from hashlib import sha256

from litestar.stores.base import NamespacedStore

from ..errors import InvalidArgument, InvalidArgumentType
from ..records import checked_subject, from_datetime, microseconds
from ..storage import ManagedSessionStorage
from ._web.arguments import checked_storage
from ._web.subjects import RESERVED

_ROOT = "litestar:"
_SEPARATOR = "/"
_SECOND = 1_000_000
_SHORTEST = 1 / _SECOND


class LitestarStore(NamespacedStore):
    """A store for Litestar's sessions, response caches and rate limits.

    It can be made without an event loop, and used from several. The storage stays the caller's: leaving
    ``async with store``, as an application does when it stops, does not close it.

    The storage keeps only a digest of a key, so a row's subject names its namespace: the control character
    U+001F, ``litestar:`` and the path of the namespace. The integrations refuse to give a session such a
    subject, so that ending a user's sessions ends no values. Every method may raise `StorageUnavailable`.

    Args:
        storage: The storage of the values.
        namespace: Separates its keys and `delete_all` from those of other stores over the storage: a
            name, or a path of names joined by ``/``. None, the default, is the root, of which all
            namespaces are children.

    Attributes:
        namespace: Its path; None for the root.

    Raises:
        InvalidArgument: If a name is empty or holds NUL, or the path is longer than 245 characters.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    __slots__ = ("_clock", "_path", "_storage", "_subject", "namespace")

    def __init__(self, storage: ManagedSessionStorage, namespace: str | None = None) -> None:
        self._storage = checked_storage(storage)
        self._clock = getattr(storage, "clock", time.time)
        self.namespace = namespace
        self._path = _ROOT if namespace is None else _ROOT + _checked(namespace)
        self._subject = checked_subject(RESERVED + self._path)

    def with_namespace(self, namespace: str) -> LitestarStore:
        """A store in a child namespace: it has its own keys, which `delete_all` of this store deletes too.

        Raises:
            InvalidArgument: If a name is empty or holds NUL, or the path is too long.
            InvalidArgumentType: If it is not a string.
        """
        parents = [] if self.namespace is None else [self.namespace]
        return type(self)(self._storage, _SEPARATOR.join([*parents, _checked(namespace)]))

    async def set(self, key: str, value: str | bytes, expires_in: float | timedelta | None = None) -> None:
        """Set a value.

        Args:
            key: Its key, of any length.
            value: The value; text is kept as UTF-8.
            expires_in: Seconds or a timedelta until it ends. None and 0 are never, as in Litestar's
                stores; a value that ended before now is removed.
        """
        data = value.encode() if isinstance(value, str) else value
        seconds = _seconds(expires_in)
        if seconds is not None and seconds < 0:
            await self.delete(key)
            return
        await self._storage.write_bytes(self._id(key), data, ttl=seconds, max_age=None, subject=self._subject)

    async def get(self, key: str, renew_for: float | timedelta | None = None) -> bytes | None:
        """The value of a key; None if there is none.

        Args:
            key: The key.
            renew_for: New time to live, in seconds or a timedelta, of a value that expires. It never
                shortens its life, and a gain below 5 % is not written. None and 0 renew nothing.

        Raises:
            InvalidArgument: If ``renew_for`` is below 0.
        """
        snapshot = await self._storage.load(self._id(key))
        if snapshot is None:
            return None
        seconds = _seconds(renew_for)
        if seconds is not None and snapshot.info.expires_at is not None:
            await self._storage.touch(self._id(key), ttl=seconds)
        return snapshot.data

    async def delete(self, key: str) -> None:
        """Delete a value, if there is one."""
        await self._storage.invalidate(self._id(key))

    async def delete_all(self) -> None:
        """Delete all values of this namespace and its children, and of no other.

        It lists every live session of the storage, without data, to find the namespaces that there are:
        with a million sessions, expect seconds.
        """
        subjects = {info.subject async for info in self._storage.sessions() if self._holds(info.subject)}
        for subject in sorted(filter(None, subjects)):
            await self._storage.revoke(subject)

    async def delete_expired(self) -> int:
        """Delete expired rows of the whole storage, of every namespace; the number of them.

        They are absent already; this frees their space. Run it at regular intervals.
        """
        return await self._storage.purge()

    async def exists(self, key: str) -> bool:
        """Whether there is a value."""
        return await self._storage.info(self._id(key)) is not None

    async def expires_in(self, key: str) -> int | None:
        """Full seconds until a value ends; -1 if never, None if there is no value."""
        info = await self._storage.info(self._id(key))
        if info is None:
            return None
        if info.expires_at is None:
            return -1
        return max(from_datetime(info.expires_at) - microseconds(self._clock), 0) // _SECOND

    def _holds(self, subject: str | None) -> bool:
        """Whether rows of a subject are of this namespace or a child."""
        if subject is None:
            return False
        within = self._subject if self.namespace is None else self._subject + _SEPARATOR
        return subject == self._subject or subject.startswith(within)

    def _id(self, key: str) -> str:
        """The session id for a key: cache keys may be longer than ids."""
        # No path holds NUL, so the first one ends it.
        return sha256(f"{self._path}\0{key}".encode(errors="surrogatepass")).hexdigest()


def _checked(namespace: str) -> str:
    if not isinstance(namespace, str):
        raise InvalidArgumentType(f"namespace must be a str, not {type(namespace).__name__}")
    if not all(namespace.split(_SEPARATOR)):
        raise InvalidArgument("a namespace must be a name, or names joined by '/', none of them empty")
    return namespace


def _seconds(value: float | timedelta | None) -> float | None:
    """The seconds of a time span; None for None and 0."""
    if not value:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return max(seconds, _SHORTEST) if seconds > 0 else seconds
