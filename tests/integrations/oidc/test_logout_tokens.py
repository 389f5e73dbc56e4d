"""Which logout tokens are taken, and which are refused."""

from __future__ import annotations

import base64
import hmac
import json
import logging
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, Key, KeySet, OctKey, OKPKey, RSAKey

from sqlsessions import (
    InvalidLogoutToken,
    SessionStorageMemory,
    StorageUnavailable,
)
from sqlsessions.integrations.oidc import BackChannelLogout, LogoutToken, labels_of, subject_of
from sqlsessions.testing import ManualClock, SpyStorage

from .provider import CLIENT, EVENT, MINUTE, OpenIDProvider, new_key

OTHER = "https://other.example"
ID_TOKEN = {"nonce": "n", "events": None}
KEY = new_key("1")
LOGOUT = BackChannelLogout(
    SessionStorageMemory(),
    issuer="https://id.example",
    client_id=CLIENT,
    jwks=lambda: KeySet([KEY]).as_dict(),
)


@pytest.fixture
def provider(clock: ManualClock) -> OpenIDProvider:
    return OpenIDProvider(clock=clock)


@pytest.fixture
def memory(clock: ManualClock) -> SpyStorage:
    return SpyStorage(SessionStorageMemory(clock=clock))


@pytest.fixture
def logout(memory: SpyStorage, provider: OpenIDProvider) -> BackChannelLogout:
    return BackChannelLogout(memory, issuer=provider.url, client_id=CLIENT, jwks=provider.jwks)


async def login(
    memory: SpyStorage, id: str, *, sid: str | None = "s1", sub: str = "ann", iss: str | None = None
) -> None:
    claims = {"iss": iss or "https://id.example", "sub": sub, "sid": sid}
    await memory.write_bytes(id, b"data", labels=labels_of(claims))


async def alive(memory: SpyStorage, *ids: str) -> list[str]:
    return [id for id in ids if await memory.info(id)]


def unsigned(claims: dict[str, Any], signature: str = "", **header: Any) -> str:
    parts = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in (header, claims)
    )
    return f"{'.'.join(parts)}.{signature}"


def hashed(claims: dict[str, Any], secret: bytes, **header: Any) -> str:
    """A token as HS256 has it."""
    signed = unsigned(claims, **header).removesuffix(".")
    digest = hmac.digest(secret, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


async def test_the_sessions_of_a_sid_end_and_others_stay(
    memory: SpyStorage, provider: OpenIDProvider, logout: BackChannelLogout
) -> None:
    await login(memory, "a")
    await login(memory, "b")
    await login(memory, "c", sid="s2")
    await login(memory, "d", iss=OTHER)
    await login(memory, "e", sid=None)
    assert await logout.end(provider.logout_token()) == 2
    assert await alive(memory, *"abcde") == ["c", "d", "e"]


async def test_without_a_sid_all_of_the_user_end(
    memory: SpyStorage, provider: OpenIDProvider, logout: BackChannelLogout
) -> None:
    await login(memory, "a")
    await login(memory, "b", sid="s2")
    await login(memory, "c", sub="bob")
    await login(memory, "d", iss=OTHER)
    await memory.write_bytes("e", b"data", subject=subject_of({"iss": provider.url, "sub": "ann"}))
    await memory.write_bytes("f", b"data", subject="ann", labels=["ann", "s1"])
    assert await logout.end(provider.logout_token(sid=None)) == 3
    assert await alive(memory, *"abcdef") == ["c", "d", "f"]


async def test_a_sid_alone_is_enough_and_nobody_need_be_logged_in(
    provider: OpenIDProvider, logout: BackChannelLogout
) -> None:
    answer = await logout.respond(provider.logout_token(sub=None))
    assert answer == (b"", 200, {"Cache-Control": "no-store"})


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": OTHER},
        {"iss": "https://id.example/"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"aud": []},
        {"aud": [CLIENT, "another"]},
        {"aud": 1},
        {"exp": None},
        {"exp": 1},
        {"exp": "never"},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": True},
        {"iat": None},
        {"iat": 1 << 40},
        {"iat": "now"},
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"events": None},
        {"events": []},
        {"events": [EVENT]},
        {"events": {}},
        {"events": {EVENT: True}},
        {"events": {"http://schemas.openid.net/secevent/risc/event-type/sessions-revoked": {}}},
        {"nonce": "n"},
        {"nonce": ""},
        {"sid": None, "sub": None},
        {"sid": 7},
        {"sid": ""},
        {"sub": ["ann"]},
        {"sub": ""},
        ID_TOKEN,
    ],
    ids=str,
)
async def test_claims_that_are_refused(
    changes: dict[str, Any], memory: SpyStorage, provider: OpenIDProvider, logout: BackChannelLogout
) -> None:
    await login(memory, "a")
    memory.calls.clear()
    claims = {name: value for name, value in (provider.claims() | changes).items() if value is not None}
    with pytest.raises(InvalidLogoutToken):
        await logout.end(provider.signed(claims))
    assert memory.calls == []
    assert await logout.end(provider.logout_token()) == 1


async def test_a_nonce_is_refused_even_if_it_is_null(
    provider: OpenIDProvider, logout: BackChannelLogout
) -> None:
    with pytest.raises(InvalidLogoutToken, match="nonce"):
        await logout.end(provider.signed(provider.claims() | {"nonce": None}))


async def test_forged_signatures(
    memory: SpyStorage, provider: OpenIDProvider, logout: BackChannelLogout
) -> None:
    await login(memory, "a")
    claims, key = provider.claims(), provider.key
    taken = provider.signed(claims)
    head, body, signature = taken.split(".")
    other = unsigned(provider.claims(sid=None), signature).split(".")[1]
    pem = key.as_pem(private=False)
    forged = {
        "another key of the same name": OpenIDProvider(clock=provider.clock).signed(claims),
        "another key of another name": OpenIDProvider(clock=provider.clock).signed(claims, kid="2"),
        "no signature": unsigned(claims, alg="none"),
        "no signature, in capitals": unsigned(claims, alg="NONE"),
        "no signature, of a key": unsigned(claims, alg="none", kid="1"),
        "the signature is missing": f"{head}.{body}.",
        "the public key as a secret": hashed(claims, pem, alg="HS256", kid="1"),
        "the public key as a secret of no name": hashed(claims, pem, alg="HS256"),
        "the public key as a secret in another form": hashed(claims, pem.strip(), alg="HS256", kid="1"),
        "a key of its own": unsigned(claims, signature, alg="RS256", jwk=new_key("1").as_dict(private=False)),
        "other claims": f"{head}.{other}.{signature}",
        "another algorithm": provider.signed(claims, alg="RS256").replace(
            head, unsigned({}, alg="PS256").split(".")[0]
        ),
        "no algorithm": unsigned(claims, signature, kid="1"),
        "a critical header": unsigned(claims, signature, alg="RS256", kid="1", crit=["exp"], exp=1),
        "nothing": "",
        "no token": "x",
        "parts": "a.b.c",
        "five parts": "a.b.c.d.e",
        "no text": "\ud800",
        "large": f"{head}.{'A' * (1 << 18)}.{signature}",
        "deep": unsigned({}, signature, alg="RS256") + "[" * 1000,
    }
    for what, token in forged.items():
        with pytest.raises(InvalidLogoutToken):
            await logout.end(token)
        assert (await logout.respond(token)).status == 400, what
    assert await alive(memory, "a") == ["a"]
    assert await logout.end(taken) == 1


@pytest.mark.parametrize("kind", ["logout+jwt", "LOGOUT+JWT", "application/logout+jwt", "JWT", None])
async def test_types_that_are_taken(
    kind: str | None, provider: OpenIDProvider, logout: BackChannelLogout
) -> None:
    assert await logout.end(provider.signed(provider.claims(), typ=kind)) == 0


@pytest.mark.parametrize("kind", ["at+jwt", "secevent+jwt", "x"])
async def test_types_that_are_refused(kind: str, provider: OpenIDProvider, logout: BackChannelLogout) -> None:
    with pytest.raises(InvalidLogoutToken, match="type"):
        await logout.end(provider.signed(provider.claims(), typ=kind))


async def test_clocks_may_differ_by_the_leeway(
    provider: OpenIDProvider, logout: BackChannelLogout, clock: ManualClock
) -> None:
    late, later, early = (provider.logout_token() for _ in range(3))
    clock.advance(-29)
    assert await logout.end(early) == 0
    clock.advance(29 + 2 * MINUTE + 28)
    assert await logout.end(late) == 0
    clock.advance(3)
    with pytest.raises(InvalidLogoutToken, match="time"):
        await logout.end(later)


async def test_a_used_token_is_refused_until_it_expires_and_then_leaves_nothing(
    memory: SpyStorage, provider: OpenIDProvider, logout: BackChannelLogout, clock: ManualClock
) -> None:
    token = provider.logout_token()
    await logout.end(token)
    again = BackChannelLogout(memory, issuer=provider.url, client_id=CLIENT, jwks=provider.jwks)
    await login(memory, "a")
    for _ in range(3):
        with pytest.raises(InvalidLogoutToken, match="used before"):
            await again.end(token)
        clock.advance(49)
    assert await alive(memory, "a") == ["a"]
    clock.advance(4)
    with pytest.raises(InvalidLogoutToken, match="time"):
        await again.end(token)
    assert [info.subject async for info in memory.sessions()] == [None]


async def test_what_one_provider_used_another_may_use(
    memory: SpyStorage, provider: OpenIDProvider, logout: BackChannelLogout, clock: ManualClock
) -> None:
    other = OpenIDProvider(OTHER, clock)
    both = BackChannelLogout(memory, issuer=OTHER, client_id=CLIENT, jwks=other.jwks)
    await login(memory, "a")
    await login(memory, "b", iss=OTHER)
    assert await logout.end(provider.logout_token(jti="1")) == 1
    assert await both.end(other.logout_token(jti="1")) == 1
    assert (await both.respond(provider.logout_token())).status == 400


async def test_used_tokens_do_not_count_as_sessions_of_one_subject(
    provider: OpenIDProvider, clock: ManualClock
) -> None:
    memory = SessionStorageMemory(clock=clock, max_sessions_per_subject=1)
    logout = BackChannelLogout(memory, issuer=provider.url, client_id=CLIENT, jwks=provider.jwks)
    tokens = [provider.logout_token() for _ in range(3)]
    assert [(await logout.respond(token)).status for token in tokens * 2] == [200] * 3 + [400] * 3


async def test_a_logout_that_fails_can_be_tried_again(
    memory: SpyStorage, provider: OpenIDProvider, logout: BackChannelLogout, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: str) -> int:
        raise StorageUnavailable("away")

    await login(memory, "a")
    token = provider.logout_token()
    with monkeypatch.context() as patch:
        patch.setattr(memory, "revoke_label", fail)
        answer = await logout.respond(token)
    assert (answer.status, json.loads(answer.body)["error"]) == (400, "temporarily_unavailable")
    assert (await logout.respond(token)).status == 200
    assert await alive(memory, "a") == []


async def test_several_clients_and_algorithms(memory: SpyStorage, clock: ManualClock) -> None:
    keys: list[Key] = [
        ECKey.generate_key("P-256", {"kid": "e"}),
        OKPKey.generate_key("Ed25519", {"kid": "o"}),
        RSAKey.generate_key(2048, {"kid": "r"}),
    ]
    provider = OpenIDProvider(clock=clock)
    jwks: Any = KeySet(keys).as_dict()
    jwks["keys"] += [{"kty": "new"}, {"kty": "EC"}, OctKey.generate_key(256).as_dict(private=True), 7]

    async def given() -> Any:
        return jwks

    def logout(**options: Any) -> BackChannelLogout:
        return BackChannelLogout(
            memory, issuer=provider.url, client_id=[CLIENT, "app"], jwks=given, **options
        )

    for key, algorithm in zip(keys, ("ES256", "Ed25519", "PS256"), strict=True):
        token = jwt.encode(
            {"alg": algorithm, "kid": key.kid}, provider.claims(aud=["app", CLIENT]), key, [algorithm]
        )
        with pytest.raises(InvalidLogoutToken, match="allowed"):
            await logout(algorithms=["RS256"]).end(token)
        assert await logout().end(token) == 0


async def test_messages_hold_nothing_of_a_token(
    provider: OpenIDProvider, logout: BackChannelLogout, caplog: pytest.LogCaptureFixture
) -> None:
    claims = provider.claims(nonce="n0nce", jti="j7i", sid="51d", sub="5ub")
    with caplog.at_level(logging.DEBUG):
        answer = await logout.respond(provider.signed(claims))
    [record] = caplog.records
    assert record.getMessage() == "a logout token was refused: it has a nonce, as ID tokens have"
    assert not any(secret in repr(answer) for secret in ("n0nce", "j7i", "51d", "5ub"))


async def test_what_a_checked_token_says(provider: OpenIDProvider, logout: BackChannelLogout) -> None:
    claims = provider.claims()
    assert await logout.verify(provider.signed(claims)) == LogoutToken(
        provider.url, "s1", "ann", claims["jti"], claims["exp"]
    )


@settings(max_examples=300, deadline=None)
@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "zip"]),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(),
            st.lists(st.text(max_size=3)),
            st.sampled_from(["RS256", "none", "1", "b64"]),
        ),
    ),
    body=st.text(max_size=8),
    signature=st.text(max_size=8),
)
async def test_whatever_it_is_no_other_error_comes_of_it(header: Any, body: str, signature: str) -> None:
    head = unsigned({}, **header).split(".")[0]
    with pytest.raises(InvalidLogoutToken):
        await LOGOUT.end(f"{head}.{body}.{signature}")
