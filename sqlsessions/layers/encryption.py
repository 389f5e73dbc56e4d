"""`EncryptedStorage`: encrypts the data of sessions, and their subjects if asked to."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar, Unpack

from .. import records
from .._keys import Keys
from .._validation import RESERVED, is_reserved
from ..channels import (
    ByteReadChannel,
    Bytes,
    ByteWriteChannel,
    Consumer,
    Provider,
    consume,
    provide,
    providing,
    require_callable,
)
from ..delegating import DelegatingStorage, MovesSessions, WriteOptions, layers
from ..ended import KeepsEnded
from ..errors import InvalidArgument, SessionConflict, SessionCorrupt, UnsupportedOperation
from ..info import EndedSession, Rebinding, SessionInfo, Snapshot, Successor
from ..storage import DEFAULT, KEEP, Default, Duration, Keep, SessionStorage
from .ciphertext import HEADER, REBOUND, SEGMENT, KeyRing, opening, size_of
from .compression import CompressedStorage

R = TypeVar("R")
T = TypeVar("T")

AT_ONCE = 1024 * 1024
"""The most bytes of data that are encrypted in one piece."""
BATCH = 64
"""Sessions that are put under the first key together."""
HIDDEN = "e1."
MAX_SUBJECT = 160
"""The most bytes of a subject that is encrypted, so that it fits where subjects are kept."""


@dataclass(frozen=True, slots=True)
class Rekeyed:
    """What `EncryptedStorage.rekey` has done so far.

    Attributes:
        sessions: How many sessions it looked at.
        changed: How many of them were not under the first key.
        unreadable: How many of them cannot be decrypted by any of the keys.
    """

    sessions: int = 0
    changed: int = 0
    unreadable: int = 0


class EncryptedStorage(DelegatingStorage):
    """Encrypts what it hands to another storage; needs the extra ``sqlsessions[crypto]``.

    The data is encrypted and authenticated in segments of 128 KiB, each under a key of its own write, so that
    memory does not grow with the session, and no byte reaches a consumer before its segment is authenticated.
    What was changed in the database, cut short, put together from several writes, or moved to another session
    raises `SessionCorrupt`. What this does not notice is an older state of the same session, put back whole.

    A change of the id binds the data to the new one, in the same transaction. Beneath, `SessionInfo.size` and
    limits count 76 bytes more for a session, and 16 for each 128 KiB after the first; here it is the size of the data.

    Args:
        delegate: The storage beneath; closed with this one.
        keys: Secret keys of 32 random bytes, or base64 text of them, as `sqlsessions new-key` makes them. The
            first one encrypts, all decrypt. Or a function that gives such a list, for instance from a key
            management service; it is called once, at once.
        encrypt_subjects: Whether subjects are encrypted as well, always to the same text, so that sessions are
            still found by them; so are labels, and what is known of the client. Subjects and labels may hold up to
            160 bytes of UTF-8 then. Those from before are found too.

    Raises:
        InvalidArgument: If a key does not hold 32 bytes, or what is beneath makes no sense.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(self, delegate: SessionStorage, keys: Keys, *, encrypt_subjects: bool = False) -> None:
        super().__init__(delegate)
        _refuse_senseless(delegate)
        self._digest = self.digest
        self._ring = KeyRing(keys)
        self._hides = encrypt_subjects
        for layer in layers(delegate):
            if isinstance(layer, MovesSessions):
                layer.rebind_moved(self._rebinding)

    async def write(self, id: str, provider: Provider, **options: Unpack[WriteOptions]) -> SessionInfo:
        header, cipher = self._ring.begin(self._digest(id))

        async def encrypting(channel: ByteWriteChannel) -> None:
            await channel.write(header)
            held: memoryview | bytearray = bytearray()

            async def sink(piece: bytes) -> None:
                nonlocal held
                left = memoryview(piece)
                while left:
                    if len(held) == SEGMENT:  # which is not the last one
                        await channel.write(cipher.seal(held, last=False))
                        held = bytearray()
                    room = SEGMENT - len(held)
                    if not held and len(left) >= SEGMENT:
                        held = left[:room]  # a whole one is not copied
                    elif isinstance(held, bytearray):
                        held += left[:room]
                    left = left[room:]

            await provide(provider, sink)
            await channel.write(cipher.seal(held, last=True))

        return self._written(await super().write(id, encrypting, **self._hiding(options)))

    async def write_bytes(self, id: str, data: Bytes, **options: Unpack[WriteOptions]) -> SessionInfo:
        if not isinstance(data, (bytes, bytearray)) or len(data) > AT_ONCE:
            return await self.write(id, providing(data), **options)
        stored = self._ring.seal(data, self._digest(id))
        return self._written(await super().write_bytes(id, stored, **self._hiding(options)))

    async def write_key(self, key: str, data: Bytes, *, if_match: int) -> SessionInfo:
        providing(data)  # which refuses what is no data
        if (digest := records.key_digest(key)) is None:
            raise SessionConflict("no live session has this key: it is no key")
        stored = self._ring.seal(data, digest)
        return self._shown(await super().write_key(key, stored, if_match=if_match))

    async def read(self, id: str, consumer: Consumer[R]) -> R:
        require_callable("consumer", consumer)
        digest = self._digest(id)

        async def decrypting(channel: ByteReadChannel) -> R:
            cipher = self._ring.cipher(await channel.read(HEADER), digest)
            info = None if channel.info is None else self._shown(channel.info)
            return await consume(consumer, opening(cipher, channel), info)

        return await super().read(id, decrypting)

    async def read_bytes(self, id: str) -> bytes:
        return self._ring.open(await self._delegate.read_bytes(id), self._digest(id))

    async def load(self, id: str) -> Snapshot | None:
        return self._snapshot(await super().load(id))

    async def load_key(self, key: str) -> Snapshot | None:
        return self._snapshot(await super().load_key(key))

    async def info(self, id: str) -> SessionInfo | None:
        return self._maybe(await super().info(id))

    async def touch(self, id: str, *, ttl: Duration | Default | Keep | None = DEFAULT) -> SessionInfo | None:
        return self._maybe(await super().touch(id, ttl=ttl))

    async def rotate(self, id: str, new_id: str) -> SessionInfo:
        rebinding = self._rebinding(self._digest(id), self._digest(new_id))
        return self._shown(await self._managed("rotate").rotate_with(id, new_id, rebinding))

    async def rotate_with(self, id: str, new_id: str, rebinding: Rebinding) -> SessionInfo:
        raise self._unsupported("rotate_with")  # what it would change is encrypted

    async def rebind(self, key: str, rebinding: Rebinding) -> bool:
        raise self._unsupported("rebind")

    async def successor(self, id: str) -> Successor | None:
        found = await super().successor(id)
        return found and Successor(found.key, self._maybe(found.info), found.since)

    async def successors(self, keys: Collection[str]) -> dict[str, Successor]:
        found = (await super().successors(keys)).items()
        return {key: Successor(each.key, self._maybe(each.info)) for key, each in found}

    async def infos(self, keys: Collection[str]) -> dict[str, SessionInfo]:
        return {key: self._shown(info) for key, info in (await super().infos(keys)).items()}

    async def revoke(self, subject: str, *, keep: str | None = None, connection: Any = None) -> int:
        revoke = partial(super().revoke, keep=keep, connection=connection)
        return sum([await revoke(each) for each in self._hidden(subject)])

    async def revoke_label(self, label: str) -> int:
        revoke = super().revoke_label
        return sum([await revoke(each) for each in self._hidden(label, records.checked_label)])

    async def sessions(
        self, subject: str | None = None, *, label: str | None = None
    ) -> AsyncIterator[SessionInfo]:
        records.refuse_both(subject, label)
        if (subject is None and label is None) or not self._hides:
            async for info in super().sessions(subject, label=label):
                yield self._shown(info)
            return
        sessions = super().sessions
        if subject is not None:
            lists = [sessions(each) for each in self._hidden(subject)]
            merged = _merged(lists, lambda info: (info.created_at, info.key), max)
        else:
            assert label is not None
            lists = [sessions(label=each) for each in self._hidden(label, records.checked_label)]
            merged = _merged(lists, lambda info: info.key, min)
        async for info in merged:
            yield self._shown(info)

    async def ended(
        self, subject: str | None = None, *, since: datetime | None = None
    ) -> AsyncIterator[EndedSession]:
        ended = super().ended
        lists = [ended(each, since=since) for each in ([None] if subject is None else self._hidden(subject))]
        async for each in _merged(lists, lambda each: (each.ended_at, each.key), max):
            yield records.renamed(each, self._name) if self._hides else each

    async def forget_ended(self, subject: str) -> int:
        forget = super().forget_ended
        return sum([await forget(each) for each in self._hidden(subject)])

    async def rename_ended(self, name: Callable[[str], str]) -> int:
        if not self._hides:
            return await super().rename_ended(name)
        return await super().rename_ended(lambda kept: self._hide(name(self._name(kept))))

    async def rekey(self, *, progress: Callable[[Rekeyed], None] | None = None) -> Rekeyed:
        """Put every session under the first key; then, the others may be removed.

        The service may keep running, once all of its processes have the new key. A session's data is not
        written: its secret is wrapped anew, in a short transaction of its own. A concurrent write wins. Breaking
        it off harms nothing; another call goes on, since a session that is under the first key is only looked at.

        Args:
            progress: Called after each batch with what was done so far.

        Returns:
            What was done. A session that none of the keys decrypts is left as it is, and counted.

        Raises:
            UnsupportedOperation: If the storage beneath cannot `rebind` sessions.
        """
        storage, done = self._managed("rekey"), Rekeyed()

        async def rebind(info: SessionInfo) -> tuple[bool, bool]:
            digest = bytes.fromhex(info.key)
            try:
                return await storage.rebind(info.key, self._rebinding(digest, digest)), False
            except SessionCorrupt:
                return False, True

        async for batch in _batches(storage.sessions()):
            for changed, unreadable in await asyncio.gather(*map(rebind, batch)):
                done = Rekeyed(done.sessions + 1, done.changed + changed, done.unreadable + unreadable)
            if progress is not None:
                progress(done)
        if self._hides and isinstance(self._delegate, KeepsEnded):
            with suppress(UnsupportedOperation):  # of what is beneath layers
                await super().rename_ended(self._renewed)
        return done

    def _rebinding(self, digest: bytes, new_digest: bytes) -> Rebinding:
        head = partial(self._ring.rebound, digest=digest, new_digest=new_digest)
        return Rebinding(REBOUND, head, self._renewed) if self._hides else Rebinding(REBOUND, head)

    def _renewed(self, name: str) -> str:
        """A name from beneath under the first key."""
        return self._hide(self._name(name))

    def _hide(self, name: str) -> str:
        return _mark(name) + _text(next(self._ring.hide(name.encode(errors="surrogatepass"))))

    def _hide_short(self, kind: str, name: str) -> str:
        """A subject or label, which is bounded where it is kept."""
        if (size := len(name.encode())) > MAX_SUBJECT:
            raise InvalidArgument(
                f"{kind} must hold at most {MAX_SUBJECT} bytes of UTF-8 with encrypt_subjects, not {size}"
            )
        return self._hide(name)

    def _name(self, kept: str) -> str:
        """A name as it was given."""
        hidden = _from_text(kept.removeprefix(RESERVED))
        shown = None if hidden is None else self._ring.show(hidden)
        return kept if shown is None else shown.decode(errors="surrogatepass")

    def _hidden(self, name: str, checked: Callable[[str], str] = records.checked_subject) -> list[str]:
        """What sessions of a subject, or with a label, may be kept under."""
        name = checked(name)
        if not self._hides:
            return [name]
        return [*(_mark(name) + _text(hidden) for hidden in self._ring.hide(name.encode())), name]

    def _hiding(self, options: WriteOptions) -> WriteOptions:
        if not self._hides or not options:
            return options
        hidden = options.copy()
        if isinstance(subject := options.get("subject"), str):
            hidden["subject"] = self._hide_short("subject", records.checked_subject(subject))
        if (labels := options.get("labels", KEEP)) is not KEEP:
            hidden["labels"] = [self._hide_short("label", label) for label in records.checked_labels(labels)]
        if (client := options.get("client", KEEP)) is not KEEP and client is not None:
            records.checked_client(client)
            hidden["client"] = {name: self._hide(value) for name, value in client.items()}
        return hidden

    def _snapshot(self, found: Snapshot | None) -> Snapshot | None:
        if found is None:
            return None
        return Snapshot(self._ring.open(found.data, bytes.fromhex(found.info.key)), self._shown(found.info))

    def _written(self, info: SessionInfo) -> SessionInfo:
        """What a write gave; a plain storage may give anything."""
        return self._shown(info) if isinstance(info, SessionInfo) else info

    def _maybe(self, info: SessionInfo | None) -> SessionInfo | None:
        return None if info is None else self._shown(info)

    def _shown(self, info: SessionInfo) -> SessionInfo:
        """An info from beneath, with the size of the data and the names as they were given."""
        subject, labels, client = info.subject, info.labels, info.client
        if self._hides:
            subject = None if subject is None else self._name(subject)
            labels = tuple(sorted(map(self._name, labels)))
            client = client and {name: self._name(value) for name, value in client.items()}
        return SessionInfo(
            info.key,
            info.version,
            size_of(info.size),
            info.created_at,
            info.updated_at,
            info.expires_at,
            subject,
            info.used_at,
            labels,
            client,
        )


async def _merged(
    lists: Sequence[AsyncIterator[T]], order: Callable[[T], Any], first: Callable[..., Any]
) -> AsyncIterator[T]:
    """What is listed under each key, in the order that each list has."""
    heads = [await anext(each, None) for each in lists]
    while found := [(order(head), number) for number, head in enumerate(heads) if head is not None]:
        number = first(found)[-1]
        head, heads[number] = heads[number], await anext(lists[number], None)
        assert head is not None
        yield head


def _refuse_senseless(storage: SessionStorage) -> None:
    for layer in layers(storage):
        if isinstance(layer, CompressedStorage):
            raise InvalidArgument(
                "the storage beneath compresses, and what is encrypted does not get smaller: put the compression over "
                "the encryption, CompressedStorage(EncryptedStorage(...))"
            )
        if isinstance(layer, EncryptedStorage):
            raise InvalidArgument(
                "the storage beneath encrypts already: encrypt once, with several keys if need be"
            )


def _mark(name: str) -> str:
    """What tells the storage beneath that a subject is no user's."""
    return RESERVED if is_reserved(name) else ""


def _text(hidden: bytes) -> str:
    return HIDDEN + base64.urlsafe_b64encode(hidden).decode().rstrip("=")


def _from_text(text: str) -> bytes | None:
    if not text.startswith(HIDDEN):
        return None
    encoded = text.removeprefix(HIDDEN)
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None


async def _batches(infos: AsyncIterator[SessionInfo]) -> AsyncIterator[list[SessionInfo]]:
    batch: list[SessionInfo] = []
    async for info in infos:
        batch.append(info)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
