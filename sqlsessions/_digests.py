"""How a storage names sessions: the digests of ids, under a key and within a namespace."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from hashlib import sha256

from ._keys import Keys, checked_keys
from ._validation import digest, encoded_id, key_digest, key_digests, utf8
from .errors import InvalidArgument, InvalidArgumentType

NAMESPACED = sha256(b"sqlsessions namespaces").digest()[:6]
"""What the digests of every namespace begin with."""
PREFIX = 12
MAX_NAMESPACE = 255


Name = tuple[str | None, Keys | None]
"""A namespace and keys, each of which may be None."""


class Digests:
    """The digests under which a storage keeps sessions.

    Without arguments, SHA-256 of the id. With a key, HMAC-SHA256 under a key that is derived from it and from the
    namespace, so that nobody without it can tell whether a guessed id is there, or plant a session under an id of
    their own. Within a namespace, 12 bytes that all of its digests share, followed by 20 of the hash, so that a range of
    the primary key holds its sessions and no others.

    Args:
        namespace: Whose sessions these are, 1 to 255 characters; None is those of no namespace.
        keys: One secret key, as callers give them; None is none.
        accept: Other namespaces and keys under which sessions of these may be kept.

    Attributes:
        of: Gives the digest of an id.
        prefix: What the digests begin with; None if they may begin with anything but `NAMESPACED`.
        accepted: Those of ``accept``, in its order.
        prefixes: All that digests may begin with.
    """

    def __init__(self, namespace: str | None, keys: Keys | None, accept: Sequence[Name] = ()) -> None:
        self.prefix: bytes | None = None
        name = b"" if namespace is None else _checked(namespace)
        if namespace is not None:
            self.prefix = NAMESPACED + sha256(name).digest()[: PREFIX - len(NAMESPACED)]
        self.of: Callable[[str], bytes] = digest
        if keys is not None:
            if len(secret := checked_keys(keys)) > 1:
                raise InvalidArgument(
                    "keys must hold one key: ids that are kept under another would not be found"
                )
            derived = Hmac(secret[0]).of(b"sqlsessions 1 ids\0" + name)
            self.of = _named(self.prefix or b"", Hmac(derived).of)
        elif self.prefix is not None:
            self.of = _named(self.prefix, _hashed_within(name))
        self.accepted = [Digests(name, [key] if key else None) for name, key in _accepted(accept)]
        self.prefixes = {self.prefix, *(each.prefix for each in self.accepted)}
        named = {each.of("id") for each in self.accepted}
        if len(named) < len(self.accepted) or self.of("id") in named:
            raise InvalidArgument("accept must hold other pairs than namespace and keys, and none twice")

    def own(self, key: str) -> bytes | None:
        """The digest of a `SessionInfo.key` of this namespace; None of another, or if it is no key."""
        found = key_digest(key)
        if found is None or not self.owns(found):
            return None
        return found

    def all_own(self, keys: Collection[str]) -> list[bytes]:
        """The digests of those keys that are keys of this namespace."""
        return [digest for digest in key_digests(keys) if self.owns(digest)]

    def owns(self, digest: bytes) -> bool:
        """Whether a digest is of this namespace, or of an accepted one."""
        return any(
            digest.startswith(prefix) if prefix else not digest.startswith(NAMESPACED)
            for prefix in self.prefixes
        )


class Hmac:
    """HMAC-SHA256 (RFC 2104) under one key, whose two blocks are hashed once.

    A third of the time that `hmac.digest` takes, which prepares the key each time.
    """

    def __init__(self, key: bytes) -> None:
        block = key.ljust(sha256().block_size, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in block)).copy
        self._outer = sha256(bytes(byte ^ 0x5C for byte in block)).copy

    def of(self, data: bytes) -> bytes:
        """The code of some data."""
        inner = self._inner()
        inner.update(data)
        outer = self._outer()
        outer.update(inner.digest())
        return outer.digest()


def _named(prefix: bytes, hashed: Callable[[bytes], bytes]) -> Callable[[str], bytes]:
    if not prefix:
        return lambda session_id: hashed(encoded_id(session_id))
    kept = sha256().digest_size - len(prefix)
    return lambda session_id: prefix + hashed(encoded_id(session_id))[:kept]


def _hashed_within(name: bytes) -> Callable[[bytes], bytes]:
    # The first has one length, so that no two pairs of a namespace and an id are hashed alike.
    within = sha256(name).digest()
    return lambda encoded: sha256(within + encoded).digest()


def _accepted(accept: Sequence[Name]) -> Iterator[tuple[str | None, bytes | None]]:
    if isinstance(accept, (str, bytes)) or not isinstance(accept, Sequence):
        raise InvalidArgumentType(f"accept must be a list of pairs, not {type(accept).__name__}")
    for pair in accept:
        if not isinstance(pair, tuple) or len(pair) != 2:  # noqa: PLR2004 (a pair)
            raise InvalidArgumentType(
                "accept must hold pairs of a namespace and keys, each of which may be None"
            )
        namespace, keys = pair
        for key in (None,) if keys is None else checked_keys(keys):
            yield namespace, key


def _checked(namespace: str) -> bytes:
    if not isinstance(namespace, str):
        raise InvalidArgumentType(f"namespace must be a str or None, not {type(namespace).__name__}")
    if not 0 < len(namespace) <= MAX_NAMESPACE:
        raise InvalidArgument(f"namespace must hold 1 to {MAX_NAMESPACE} characters")
    return utf8("namespace", namespace)
