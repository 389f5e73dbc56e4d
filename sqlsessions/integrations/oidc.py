"""OpenID Connect Back-Channel Logout 1.0: a provider ends the sessions of those who log out there."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from .._validation import MAX_DURATION
from ..errors import (
    InvalidArgument,
    InvalidLogoutToken,
    ProviderUnavailable,
    SessionConflict,
    StorageUnavailable,
)
from ..storage import ManagedSessionStorage
from ._oidc_keys import Fetch, ProviderKeys
from ._oidc_tokens import ASYMMETRIC, LogoutToken, UnknownKey, checked_issuer, digest_of, name_of, rules
from ._web.arguments import checked_storage
from ._web.portal import run
from ._web.subjects import RESERVED
from ._web.watching import notice

__all__ = ["BackChannelLogout", "LogoutResponse", "LogoutToken", "labels_of", "subject_of"]

LARGEST = 1 << 18
"""The most bytes of a request."""

_FORM = b"application/x-www-form-urlencoded"

logger = logging.getLogger("sqlsessions")


def labels_of(claims: Mapping[str, Any]) -> list[str]:
    """The labels by which `BackChannelLogout` finds a session: assign them at the login.

    One is of the ``sid``, if the provider gives it, one of the ``sub``. Both name the provider, so that what two
    of them call the same stays apart.

    Args:
        claims: The claims of the ID token, which was checked: ``iss``, ``sub`` and, if there is one, ``sid``.

    Raises:
        InvalidArgument: If ``iss`` or ``sub`` is missing.
    """
    sid = claims.get("sid")
    session = [] if sid is None else [name_of("sid", checked_issuer(claims.get("iss")), _text("sid", sid))]
    return [*session, subject_of(claims)]


def subject_of(claims: Mapping[str, Any]) -> str:
    """A subject for services that have no ids of users of their own: it names the provider and the ``sub``.

    Args:
        claims: The claims of the ID token, which was checked.

    Raises:
        InvalidArgument: If ``iss`` or ``sub`` is missing.
    """
    return name_of("sub", checked_issuer(claims.get("iss")), _text("sub", claims.get("sub")))


class LogoutResponse(NamedTuple):
    """The response to a logout request. Flask and Quart take it as it is.

    Attributes:
        body: The body: empty, or a JSON object with ``error`` and ``error_description``.
        status: 200, or 400 if the request is not valid or the logout failed.
        headers: The headers.
    """

    body: bytes
    status: int
    headers: dict[str, str]


class BackChannelLogout:
    """The endpoint to which an OpenID provider sends a logout token for each session that ends there.

    It is an ASGI application. For frameworks without ASGI there are `respond` and `respond_blocking`, which take the
    field ``logout_token`` of the form. Sessions are found by the labels of `labels_of`: those with the ``sid`` of the
    token, or else all of its ``sub``.

    A token is checked as section 2.6 of the specification says, and one that was used before is refused, in every
    process on the same database: the storage keeps an entry without data, of a reserved subject, until it expires.

    Args:
        storage: The storage of the sessions; it is not closed.
        issuer: The provider's issuer identifier, as it is in its tokens.
        client_id: The id that the provider gave this service, or several.
        jwks: Where the provider's keys are: an https URL, or a function, which may be async, that gives the JWK Set as
            a dict. None, the default, asks the provider's discovery document. They are kept for an hour, and fetched
            again for a key that is not known, at most every 10 seconds.
        algorithms: The algorithms of signatures; by default all of RSA, of elliptic curves and EdDSA. Not ``none``, nor
            those with a secret that both sides have.
        leeway: Whole seconds by which the clocks of the provider and this service may differ.

    Raises:
        InvalidArgument: If an argument has a value that is not allowed.
        InvalidArgumentType: If one is of the wrong type.
    """

    def __init__(
        self,
        storage: ManagedSessionStorage,
        *,
        issuer: str,
        client_id: str | Collection[str],
        jwks: str | Fetch | None = None,
        algorithms: Collection[str] = ASYMMETRIC,
        leeway: int = 30,
    ) -> None:
        self._storage = checked_storage(storage)
        self._clock = getattr(storage, "clock", time.time)
        self._rules = rules(issuer, client_id, algorithms, leeway)
        self._keys = ProviderKeys(issuer, jwks, self._clock)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            raise InvalidArgument(f"a logout is an HTTP request, not {scope['type']!r}")
        response = _bad("the method must be POST")
        if scope["method"] == "POST":
            token = await _token_of(scope, receive)
            response = await self.respond(token)
        headers = [(name.lower().encode(), value.encode()) for name, value in response.headers.items()]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    async def respond(self, token: object) -> LogoutResponse:
        """The response to a request.

        Args:
            token: The field ``logout_token`` of its form, a string; None if there is none.
        """
        if not isinstance(token, str):
            return _bad("a form with one logout_token is needed")
        try:
            await self.end(token)
        except InvalidLogoutToken as error:
            logger.warning("a logout token was refused: %s", error)
            return _bad(str(error))
        except (ProviderUnavailable, StorageUnavailable) as error:
            logger.error("a logout by an OpenID provider failed: %s", error)  # noqa: TRY400 (it is no fault of the code)
            return _bad("the logout failed for now", "temporarily_unavailable")
        return LogoutResponse(b"", 200, {"Cache-Control": "no-store"})

    def respond_blocking(self, token: object) -> LogoutResponse:
        """`respond`, for code that cannot await."""
        return run(self.respond(token))

    async def end(self, token: str) -> int:
        """End the sessions that a logout token names; the number of them.

        Raises:
            InvalidLogoutToken: If it is not valid, or was used before.
            ProviderUnavailable: If the keys of the provider cannot be fetched.
            StorageUnavailable: If the sessions could not be ended; the token can be used again.
        """
        checked = await self.verify(token)
        used = f"{RESERVED}oidc {digest_of(checked.issuer, checked.jti)}"
        if await self._storage.info(used) is not None:
            raise InvalidLogoutToken("it was used before")
        # Only then is it noted, so that a logout that fails can be tried again.
        ended = await self._end(checked)
        rest = checked.expires_at + self._rules.leeway - self._clock()
        try:
            await self._storage.write_bytes(
                used, b"", ttl=min(max(rest, 1.0), MAX_DURATION), max_age=None, subject=used, if_match=0
            )
        except SessionConflict:
            raise InvalidLogoutToken("it is used twice at once") from None
        return ended

    async def verify(self, token: str) -> LogoutToken:
        """Check a logout token, but not whether it was used before.

        Raises:
            InvalidLogoutToken: If it is not valid.
            ProviderUnavailable: If the keys of the provider cannot be fetched.
        """
        self._rules.check_header(token)
        keys = await self._keys.current()
        try:
            return self._rules.verified(token, keys, self._clock())
        except UnknownKey:
            return self._rules.verified(token, await self._keys.after(keys), self._clock())

    async def _end(self, token: LogoutToken) -> int:
        if token.sid is not None:
            ended = await self._storage.revoke_label(name_of("sid", token.issuer, token.sid))
        else:
            assert token.subject is not None
            user = name_of("sub", token.issuer, token.subject)
            ended = await self._storage.revoke_label(user) + await self._storage.revoke(user)
        notice(self._storage, None)
        return ended


def _bad(description: str, error: str = "invalid_request") -> LogoutResponse:
    body = json.dumps({"error": error, "error_description": description}).encode()
    return LogoutResponse(body, 400, {"Cache-Control": "no-store", "Content-Type": "application/json"})


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidArgument(f"the claims must have {name!r}, a string that is not empty")
    return value


async def _token_of(scope: Any, receive: Any) -> str | None:
    """The logout token in the form of a request; None if there is not just one."""
    types = [value for name, value in scope["headers"] if name == b"content-type"]
    if len(types) != 1 or types[0].partition(b";")[0].strip().lower() != _FORM:
        return None
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":  # the client is gone
            return None
        body += message.get("body", b"")
        if len(body) > LARGEST:
            return None
        more = message.get("more_body", False)
    try:
        found = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError:
        return None
    tokens = found.get("logout_token", [])
    return tokens[0] if len(tokens) == 1 else None
