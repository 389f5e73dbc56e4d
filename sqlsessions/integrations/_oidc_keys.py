"""The keys of an OpenID provider: fetched when needed, and kept."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from inspect import isawaitable
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from ..errors import InvalidArgument, InvalidArgumentType, ProviderUnavailable, missing

try:
    import httpx2
    from joserfc.errors import JoseError
except ModuleNotFoundError as error:
    raise missing(error, "sqlsessions.integrations.oidc", "oidc") from error
from joserfc.jwk import JWKRegistry, Key, KeySet, OctKey

from ..records import Clock

Fetch = Callable[[], Mapping[str, Any] | Awaitable[Mapping[str, Any]]]
"""Gives a JWK Set (RFC 7517), at once or when awaited."""

KEPT = 3600.0
"""Seconds for which keys are used without asking the provider again."""

PAUSE = 10.0
"""Seconds between two fetches at least, however many tokens name keys that are not known."""

TIMEOUT = 5.0
"""Seconds for an answer of the provider."""

LARGEST = 1 << 20
"""The most bytes of an answer."""

logger = logging.getLogger("sqlsessions")


class ProviderKeys:
    """The public keys of an OpenID provider, by which its signatures are checked.

    Args:
        issuer: The provider's issuer identifier.
        jwks: The URL of its keys, or a function that gives them; None asks its discovery document for the URL.
        clock: Gives the time in seconds.

    Raises:
        InvalidArgument: If a URL is neither https nor of this machine.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(self, issuer: str, jwks: str | Fetch | None, clock: Clock) -> None:
        self._clock = clock
        self._issuer = issuer
        if jwks is None:
            self._fetch: Fetch = self._discovered
            checked_url("issuer", issuer)
        elif callable(jwks):
            self._fetch = jwks
        else:
            url = checked_url("jwks", jwks)
            self._fetch = lambda: _json(url)
        self._keys: KeySet | None = None
        self._fetched_at = self._tried_at = float("-inf")
        self._failed = False
        # A fetch serves all tokens that come meanwhile; a lock belongs to one event loop.
        self._locks: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()

    async def current(self) -> KeySet:
        """The keys, which are fetched if that was not done for an hour.

        Raises:
            ProviderUnavailable: If there are none.
        """
        if self._keys is not None and self._is_within(KEPT, self._fetched_at):
            return self._keys
        try:
            return await self._renewed(self._keys)
        except ProviderUnavailable as error:
            if self._keys is None:
                raise
            logger.warning("the keys of an OpenID provider could not be fetched again: %s", error)
            return self._keys

    async def after(self, keys: KeySet) -> KeySet:
        """The keys of a provider that may have others than these by now; these if it was asked just before.

        Raises:
            ProviderUnavailable: If they could not be fetched.
        """
        return await self._renewed(keys)

    async def _renewed(self, before: KeySet | None) -> KeySet:
        lock = self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock:
            if self._keys is not None and self._keys is not before:
                return self._keys
            if self._is_within(PAUSE, self._tried_at):
                if self._keys is None or self._failed:
                    raise ProviderUnavailable("the keys could not be fetched a moment ago")
                return self._keys
            self._tried_at, self._failed = self._clock(), True
            self._keys = imported(await self._given())
            self._fetched_at, self._failed = self._tried_at, False
            return self._keys

    async def _given(self) -> Any:
        try:
            found = self._fetch()
            return await found if isawaitable(found) else found
        except ProviderUnavailable:
            raise
        except Exception as error:
            raise ProviderUnavailable("the keys of the OpenID provider could not be fetched") from error

    async def _discovered(self) -> Any:
        found = await _json(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if found.get("issuer") != self._issuer:
            raise ProviderUnavailable("the discovery document is that of another OpenID provider")
        try:
            return await _json(checked_url("jwks_uri", found.get("jwks_uri")))
        except (InvalidArgument, InvalidArgumentType) as error:
            raise ProviderUnavailable(f"the discovery document cannot be used: {error}") from None

    def _is_within(self, seconds: float, since: float) -> bool:
        return abs(self._clock() - since) < seconds  # a clock may be set back


def imported(jwks: Any) -> KeySet:
    """The keys of a JWK Set by which signatures can be checked.

    Raises:
        ProviderUnavailable: If it is no JWK Set, or has no such key.
    """
    found = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(found, list):
        raise ProviderUnavailable("what the OpenID provider gave is no JWK Set")
    keys: list[Key] = []
    for each in found:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig":
            continue
        try:
            key = JWKRegistry.import_key(each)
        except (JoseError, ValueError, TypeError, KeyError):  # of a kind that is not known here
            continue
        if not isinstance(key, OctKey):  # a secret, which nobody would publish
            keys.append(key)
    if not keys:
        raise ProviderUnavailable("the OpenID provider has no keys for signatures")
    return KeySet(keys)


def checked_url(name: str, url: Any) -> str:
    """A URL that nobody on the way can answer for the provider.

    Raises:
        InvalidArgumentType: If it is not a string.
        InvalidArgument: If it is neither https nor of this machine.
    """
    if not isinstance(url, str):
        raise InvalidArgumentType(f"{name} must be a URL, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and _is_local(host))):
        raise InvalidArgument(f"{name} must be an https URL")
    return url


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


async def _json(url: str) -> dict[str, Any]:
    """A JSON object that the provider serves."""
    async with (
        httpx2.AsyncClient(timeout=TIMEOUT) as client,
        asyncio.timeout(2 * TIMEOUT),
        client.stream("GET", url, headers={"Accept": "application/json"}) as response,
    ):
        if not response.is_success:
            raise ProviderUnavailable(f"the OpenID provider answered with status {response.status_code}")
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > LARGEST:
                raise ProviderUnavailable("the OpenID provider answered with too much")
    found = json.loads(body)
    if not isinstance(found, dict):
        raise ProviderUnavailable("the OpenID provider answered with something else than a JSON object")
    return found
