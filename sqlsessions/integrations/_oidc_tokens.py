"""Logout tokens of OpenID Connect Back-Channel Logout 1.0, and what sessions are called after a login."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry, extract_compact
from joserfc.jwt import JWTClaimsRegistry

from .._validation import MAX_SUBJECT
from ..errors import InvalidArgument, InvalidArgumentType, InvalidLogoutToken

EVENT = "http://schemas.openid.net/event/backchannel-logout"
ASYMMETRIC = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
"""Algorithms whose signatures only the provider can make. Not HS256, whose key would be the client's secret."""

_TYPES = (None, "jwt", "logout+jwt")


@dataclass(frozen=True, slots=True)
class LogoutToken:
    """A logout token that was checked.

    Attributes:
        issuer: The provider.
        sid: The session at the provider that ended; None if the token names none.
        subject: The user, as the provider calls them; None if the token names none.
        jti: What tells the token from others.
        expires_at: When it expires, in seconds since 1970.
    """

    issuer: str
    sid: str | None = field(repr=False)
    subject: str | None = field(repr=False)
    jti: str = field(repr=False)
    expires_at: float


class UnknownKey(InvalidLogoutToken):
    """A token names a key that is not among those of the provider."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a logout token must be.

    Attributes:
        issuer: The provider.
        clients: The ids of the clients that this service is.
        registry: The algorithms of signatures.
        leeway: Seconds by which clocks may differ.
    """

    issuer: str
    clients: frozenset[str]
    registry: JWSRegistry
    leeway: int

    def check_header(self, token: str) -> None:
        """Check what a token says of its signature, before keys are fetched for it.

        Raises:
            InvalidLogoutToken: If it is of another kind, or its algorithm is not among those allowed.
        """
        try:
            header = extract_compact(token.encode(), None, self.registry).headers()
            self.registry.check_header(header)
            self.registry.get_alg(header["alg"])
        except Exception as error:  # forged tokens may have the library raise anything
            raise InvalidLogoutToken("it is no JWS of an allowed algorithm") from error
        kind = header.get("typ")
        if isinstance(kind, str):
            kind = kind.lower().removeprefix("application/")
        if kind not in _TYPES:
            raise InvalidLogoutToken("it is a token of another type")

    def verified(self, token: str, keys: KeySet, now: float) -> LogoutToken:
        """A token whose signature and claims hold.

        Args:
            token: The token.
            keys: The keys of the provider.
            now: The time in seconds since 1970.

        Raises:
            UnknownKey: If it names a key that is not among them.
            InvalidLogoutToken: If it is not to be believed.
        """
        try:
            claims = jwt.decode(token, keys, registry=self.registry).claims
        except InvalidKeyIdError as error:
            raise UnknownKey("it is signed by a key that the provider does not have") from error
        except Exception as error:
            raise InvalidLogoutToken("its signature does not hold") from error
        try:
            JWTClaimsRegistry(
                now=int(now),
                leeway=self.leeway,
                iss={"essential": True, "value": self.issuer},
                aud={"essential": True, "values": [*self.clients]},
                iat={"essential": True},
                exp={"essential": True},
                jti={"essential": True},
            ).validate(claims)
        except JoseError as error:
            raise InvalidLogoutToken(
                "its issuer, audience or time is not valid, or its jti is missing"
            ) from error
        audience = claims["aud"]
        if not self.clients.issuperset([audience] if isinstance(audience, str) else audience):
            raise InvalidLogoutToken("it is for other clients too")
        self._check_event(claims)
        named = {name: claims[name] for name in ("sid", "sub") if name in claims}
        if not named or not all(isinstance(name, str) and name for name in named.values()):
            raise InvalidLogoutToken("it names neither a session nor a user")
        return LogoutToken(
            self.issuer, named.get("sid"), named.get("sub"), claims["jti"], float(claims["exp"])
        )

    @staticmethod
    def _check_event(claims: Mapping[str, Any]) -> None:
        """Check that it is no other token of the provider's, such as an ID token."""
        events = claims.get("events")
        if not isinstance(events, dict) or not isinstance(events.get(EVENT), dict):
            raise InvalidLogoutToken("it tells of no logout")
        if "nonce" in claims:
            raise InvalidLogoutToken("it has a nonce, as ID tokens have")


def rules(issuer: str, client_id: str | Collection[str], algorithms: Collection[str], leeway: int) -> Rules:
    """`Rules` of checked arguments.

    Raises:
        InvalidArgument: If an argument has a value that is not allowed.
        InvalidArgumentType: If one is of the wrong type.
    """
    clients = _texts("client_id", [client_id] if isinstance(client_id, str) else client_id)
    allowed = _texts("algorithms", algorithms)
    if not allowed.issubset(ASYMMETRIC):
        raise InvalidArgument(f"algorithms must be among {', '.join(ASYMMETRIC)}")
    if not isinstance(issuer, str):
        raise InvalidArgumentType(f"issuer must be a str, not {type(issuer).__name__}")
    if not isinstance(leeway, int) or isinstance(leeway, bool):
        raise InvalidArgumentType(f"leeway must be whole seconds, not {type(leeway).__name__}")
    if not 0 <= leeway <= 600:  # noqa: PLR2004
        raise InvalidArgument(f"leeway must be 0 to 600 seconds, not {leeway}")
    checked_issuer(issuer)
    # Headers that are not known are to be ignored (RFC 7515, section 4), those in "crit" are not.
    registry = JWSRegistry(algorithms=sorted(allowed), strict_check_header=False)
    return Rules(issuer, clients, registry, leeway)


def _texts(name: str, given: Collection[str]) -> frozenset[str]:
    if isinstance(given, (str, bytes)) or not isinstance(given, Collection):
        raise InvalidArgumentType(f"{name} must be a collection of strings")
    if not given or not all(isinstance(text, str) and text for text in given):
        raise InvalidArgument(f"{name} must not be empty")
    return frozenset(given)


def checked_issuer(issuer: Any) -> str:
    """An issuer identifier.

    Raises:
        InvalidArgument: If it is empty, no string, or has a space.
    """
    if not isinstance(issuer, str) or not issuer or " " in issuer:
        raise InvalidArgument("the issuer must be the URL of an OpenID provider")
    return issuer


def name_of(kind: str, issuer: str, value: str) -> str:
    """A label or subject that no other provider's has: an issuer has no spaces, and a digest a kind of its own."""
    name = f"oidc {kind} {issuer} {value}"
    if len(name) <= MAX_SUBJECT and name.isprintable():
        return name
    return f"oidc {kind}-digest {digest_of(issuer, value)}"


def digest_of(*parts: str) -> str:
    """SHA-256 of some texts, in hex."""
    return sha256(json.dumps(parts).encode()).hexdigest()
