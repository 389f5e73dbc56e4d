"""`KeyValueStore`: a store of py-key-value over a session storage, as FastMCP and others take one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from ..errors import missing

try:
    from key_value.aio.stores.base import BaseCullStore, BaseDestroyCollectionStore, ManagedEntry
except ModuleNotFoundError as error:
    raise missing(error, "sqlsessions.integrations.key_value", "key-value") from error

from ..storage import ManagedSessionStorage
from ._web.arguments import checked_storage
from ._web.subjects import RESERVED

__all__ = ["KeyValueStore"]

_ROOT = "key-value:"
_LONGEST = 200  # characters of a collection's name in a subject, which has room for 255
_AT_ONCE = 64  # operations of one call that may wait for the storage


class KeyValueStore(BaseDestroyCollectionStore, BaseCullStore):
    """A store with collections of JSON objects, for whatever takes an ``AsyncKeyValue``.

    The storage stays the caller's and is not closed. It keeps only a digest of a key, so keys cannot be listed. A
    row's subject names its collection: the control character U+001F, ``key-value:`` and the name, or a digest of
    one above 200 characters. The integrations refuse to give a session such a subject, so that ending a user's
    sessions ends no values. Every method may raise `StorageUnavailable`.

    Args:
        storage: The storage of the values.
        default_collection: The collection that is used where a call names none; None is py-key-value's own.

    Raises:
        InvalidArgumentType: If the storage is not a `ManagedSessionStorage`.
    """

    def __init__(self, storage: ManagedSessionStorage, *, default_collection: str | None = None) -> None:
        self._storage = checked_storage(storage)
        super().__init__(default_collection=default_collection, stable_api=True)

    async def _get_managed_entry(self, *, collection: str, key: str) -> ManagedEntry | None:
        snapshot = await self._storage.load(_id(collection, key))
        return None if snapshot is None else self._serialization_adapter.load_json(snapshot.data.decode())

    async def _get_managed_entries(
        self, *, collection: str, keys: Sequence[str]
    ) -> list[ManagedEntry | None]:
        found: list[ManagedEntry | None] = []
        for some in _portions(keys):
            found += await asyncio.gather(
                *(self._get_managed_entry(collection=collection, key=key) for key in some)
            )
        return found

    async def _put_managed_entry(self, *, collection: str, key: str, managed_entry: ManagedEntry) -> None:
        ttl = managed_entry.ttl
        if ttl is not None and ttl <= 0:
            await self._storage.invalidate(_id(collection, key))
            return
        await self._storage.write_bytes(
            _id(collection, key),
            self._serialization_adapter.dump_json(managed_entry).encode(),
            ttl=ttl,
            max_age=None,
            subject=_subject(collection),
        )

    async def _put_managed_entries(
        self,
        *,
        collection: str,
        keys: Sequence[str],
        managed_entries: Sequence[ManagedEntry],
        ttl: float | None,  # noqa: ARG002 (the entries say it)
        created_at: datetime,  # noqa: ARG002
        expires_at: datetime | None,  # noqa: ARG002
    ) -> None:
        entries = dict(zip(keys, managed_entries, strict=True))  # the last of a key
        for some in _portions([*entries]):
            await asyncio.gather(
                *(
                    self._put_managed_entry(collection=collection, key=key, managed_entry=entries[key])
                    for key in some
                )
            )

    async def _delete_managed_entry(self, *, key: str, collection: str) -> bool:
        return await self._storage.invalidate_key(self._storage.digest(_id(collection, key)).hex())

    async def _delete_managed_entries(self, *, keys: Sequence[str], collection: str) -> int:
        deleted = 0
        for some in _portions([*dict.fromkeys(keys)]):
            deleted += sum(
                await asyncio.gather(
                    *(self._delete_managed_entry(key=key, collection=collection) for key in some)
                )
            )
        return deleted

    async def _delete_collection(self, *, collection: str) -> bool:
        return await self._storage.revoke(_subject(collection)) > 0

    async def _cull(self) -> None:
        await self._storage.purge()


def _id(collection: str, key: str) -> str:
    """The session id for a key: keys may be longer than ids."""
    size = len(collection.encode(errors="surrogatepass"))
    return sha256(f"{_ROOT}{size}:{collection}{key}".encode(errors="surrogatepass")).hexdigest()


def _subject(collection: str) -> str:
    if len(collection) > _LONGEST or not collection.isprintable():
        collection = sha256(collection.encode(errors="surrogatepass")).hexdigest()
    return f"{RESERVED}{_ROOT}{collection}"


def _portions(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[start : start + _AT_ONCE] for start in range(0, len(keys), _AT_ONCE)]
