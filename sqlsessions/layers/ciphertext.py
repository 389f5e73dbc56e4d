"""The format of encrypted sessions, version 1.

A header of 60 bytes, then the data in segments of 128 KiB, the last of which may be shorter::

    "sqS1" · 8 bytes that name the key · 48 random bytes                               of one segment
    "sqL1" · 8 bytes that name the key · 48 bytes: the session's secret, wrapped       of any number
    each segment: AES-256-GCM of up to 131,072 bytes, and 16 bytes of its tag

Each write has a key of its own, made by HKDF-SHA256 (RFC 5869). With data at hand that fits one segment, it is made
from the caller's key, the random bytes and the session's digest, so that it decrypts in this session alone. Else it
is made from a random secret of 32 bytes, which AES-256-SIV (RFC 5297) wraps under a key derived from the caller's,
with the session's digest, the version of the format and the name of the key as associated data. As SIV needs no
nonce, there is no limit on how many are wrapped.

The segments are encrypted by the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár ("Online
Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015): a segment's nonce is its number, and
whether it is the last. A segment that was changed, left out, moved, added, or taken from another write is refused.

So a change of the session's id or of the key changes the first segment at most, and of a large session 60 bytes,
which the storage beneath does in the transaction that gives the session its new id.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import AsyncIterator, Iterator

try:
    from cryptography.exceptions import InvalidTag
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "EncryptedStorage needs cryptography: pip install 'sqlsessions[crypto]'", name="cryptography"
    ) from error
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .._digests import Hmac
from .._keys import KEY_BYTES, Keys, checked_keys
from ..channels import ByteReadChannel, Bytes
from ..errors import SessionCorrupt

SMALL, LARGE = b"sqS1", b"sqL1"
MAGIC = len(SMALL)
NAME = 8  # bytes
SECRET = 32
TAG = 16
SALT = TAG + SECRET  # so that both headers have one size
HEADER = MAGIC + NAME + SALT
SEGMENT = 128 * 1024
SEALED = SEGMENT + TAG
REBOUND = HEADER + SEALED
"""How many bytes another id or key changes at most."""

CHANGED = "a session's data was changed, or belongs to another session: it cannot be decrypted"


class KeyRing:
    """The keys of an `EncryptedStorage`: the first one encrypts, all decrypt.

    Args:
        keys: As callers give them.
    """

    def __init__(self, keys: Keys) -> None:
        self._keys = {(key := _Key(material)).name: key for material in checked_keys(keys)}
        self._first = next(iter(self._keys.values()))

    def __repr__(self) -> str:
        return f"KeyRing(<{len(self._keys)} keys>)"

    def begin(self, digest: bytes) -> tuple[bytes, Segments]:
        """The header of a write of any size, and the cipher of its segments."""
        secret = secrets.token_bytes(SECRET)
        return self._first.wrap(secret, digest), Segments.of(secret)

    def seal(self, data: Bytes, digest: bytes) -> bytes:
        """Data as it is stored."""
        if not isinstance(data, (bytes, bytearray)):
            data = bytes(data)
        if len(data) <= SEGMENT:
            salt = secrets.token_bytes(SALT)
            return self._first.small + salt + self._first.cipher(salt, digest).seal(data, last=True)
        header, cipher = self.begin(digest)
        view = memoryview(data)
        starts = range(0, len(view), SEGMENT)
        pieces = (cipher.seal(view[at : at + SEGMENT], last=at + SEGMENT >= len(view)) for at in starts)
        return b"".join((header, *pieces))

    def open(self, stored: bytes, digest: bytes) -> bytes:
        """The data of what is stored.

        Raises:
            SessionCorrupt: If it is not as it was encrypted, not for this session, or under none of the keys.
        """
        cipher = self.cipher(stored[:HEADER], digest)
        if len(stored) <= HEADER + SEALED:
            return cipher.open(stored[HEADER:], last=True)
        view = memoryview(stored)[HEADER:]
        starts = range(0, len(view), SEALED)
        return b"".join(cipher.open(view[at : at + SEALED], last=at + SEALED >= len(view)) for at in starts)

    def cipher(self, header: bytes, digest: bytes) -> Segments:
        """The cipher of the segments after a header.

        Raises:
            SessionCorrupt: If the header is not of this session, or under none of the keys.
        """
        kind, name, rest = header[:MAGIC], header[MAGIC : MAGIC + NAME], header[MAGIC + NAME :]
        if len(rest) != SALT or kind not in (SMALL, LARGE):
            raise SessionCorrupt("a session's data is not encrypted, or by a later version of sqlsessions")
        if (key := self._keys.get(name)) is None:
            raise SessionCorrupt("a session's data is encrypted under a key that is not among the keys")
        return key.cipher(rest, digest) if kind == SMALL else Segments.of(key.unwrap(rest, digest))

    def rebound(self, head: bytes, digest: bytes, new_digest: bytes) -> bytes:
        """The first `REBOUND` bytes of what is stored, for another digest, and under the first key.

        Raises:
            SessionCorrupt: As `open`.
        """
        if digest == new_digest and head[MAGIC : MAGIC + NAME] == self._first.name:
            return head
        self.cipher(head[:HEADER], digest)  # which refuses what cannot be opened
        if head.startswith(SMALL):
            return self.seal(self.open(head, digest), new_digest)
        key = self._keys[head[MAGIC : MAGIC + NAME]]
        secret = key.unwrap(head[MAGIC + NAME : HEADER], digest)
        return self._first.wrap(secret, new_digest) + head[HEADER:]

    def hide(self, subject: bytes) -> Iterator[bytes]:
        """A subject under each key, the first one first; the same subject gives the same."""
        for key in self._keys.values():
            yield key.name + key.subjects.encrypt(subject, [key.name])

    def show(self, hidden: bytes) -> bytes | None:
        """The subject that was hidden; None if it was not, by none of the keys."""
        if (key := self._keys.get(hidden[:NAME])) is None:
            return None
        try:
            return key.subjects.decrypt(hidden[NAME:], [key.name])
        except (InvalidTag, ValueError):
            return None


class _Key:
    """One key, and the keys that are derived from it, of which it needs no salt since it is random."""

    def __init__(self, material: bytes) -> None:
        self.name = hmac.digest(material, b"sqlsessions 1 name of the key", "sha256")[:NAME]
        self.small, self.large = SMALL + self.name, LARGE + self.name
        self.subjects = AESSIV(_derived(material, b"sqlsessions 1 subjects", 2 * KEY_BYTES))
        self._secrets = AESSIV(_derived(material, b"sqlsessions 1 secrets", 2 * KEY_BYTES))
        self._of_small = Hmac(_derived(material, b"sqlsessions 1 small sessions", KEY_BYTES)).of

    def cipher(self, salt: bytes, digest: bytes) -> Segments:
        return Segments(self._of_small(self.small + salt + digest + b"\1"))  # as `_expanded`

    def wrap(self, secret: bytes, digest: bytes) -> bytes:
        return self.large + self._secrets.encrypt(secret, [self.large, digest])

    def unwrap(self, wrapped: bytes, digest: bytes) -> bytes:
        try:
            return self._secrets.decrypt(wrapped, [self.large, digest])
        except InvalidTag:
            raise SessionCorrupt(CHANGED) from None


class Segments:
    """The cipher of one write's segments, which are counted from 0.

    Args:
        key: The write's own.
    """

    __slots__ = ("_cipher", "_number")

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        self._number = 0

    @classmethod
    def of(cls, secret: bytes) -> Segments:
        """The cipher of a write that has a secret."""
        return cls(_expanded(secret, b"sqlsessions 1 segments"))

    def seal(self, data: Bytes, *, last: bool) -> bytes:
        """Encrypt the next segment."""
        number, self._number = self._number, self._number + 1
        return self._cipher.encrypt((number << 8 | last).to_bytes(12, "big"), data, None)

    def open(self, sealed: Bytes, *, last: bool) -> bytes:
        """Decrypt the next segment.

        Raises:
            SessionCorrupt: If it is not as it was encrypted, or not where.
        """
        number, self._number = self._number, self._number + 1
        try:
            return self._cipher.decrypt((number << 8 | last).to_bytes(12, "big"), sealed, None)
        except (InvalidTag, ValueError):
            raise SessionCorrupt(CHANGED) from None


async def opening(cipher: Segments, channel: ByteReadChannel) -> AsyncIterator[bytes]:
    """The data of what a channel gives after the header, segment by segment, each once it is authenticated.

    Raises:
        SessionCorrupt: If it is not as it was encrypted.
    """
    piece = await channel.read(SEALED)
    while True:
        following = await channel.read(SEALED)
        if data := cipher.open(piece, last=not following):
            yield data
        if not following:
            return
        piece = following


def size_of(stored: int) -> int:
    """How many bytes of data are in so many stored ones."""
    body = max(stored - HEADER, TAG)
    return body - TAG * -(-body // SEALED)


def _expanded(secret: bytes, info: bytes) -> bytes:
    """HKDF-Expand (RFC 5869, section 2.3) of one block, by hand since each small read does it."""
    return hmac.digest(secret, info + b"\1", "sha256")


def _derived(secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, None, info).derive(secret)
