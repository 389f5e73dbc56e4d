"""What sessions are called after a login by a provider, and arguments that are refused."""

from __future__ import annotations

from typing import Any

import pytest

from sqlsessions import InvalidArgument, InvalidArgumentType, SessionStorageMemory
from sqlsessions.integrations.oidc import BackChannelLogout, labels_of, subject_of

from .provider import CLIENT


def test_names_of_two_providers_never_meet() -> None:
    long = "s" * 300
    given = [
        {"iss": iss, "sub": sub, "sid": sid}
        for iss in ("https://a.example", "https://a.example/b", f"https://{long}")
        for sub, sid in (("b", "c"), ("b c", "c"), (long, long + "2"), ("\0", "\ud800"), ("c", "b"))
    ]
    names = [name for claims in given for name in labels_of(claims)]
    assert len({*names}) == len(names) - 3 * 1  # the second sid is the first one's
    assert all(0 < len(name) <= 255 and name.isprintable() for name in names)
    assert labels_of({"iss": "https://a.example", "sub": "b"}) == [
        subject_of({"iss": "https://a.example", "sub": "b"})
    ]


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"iss": "x"},
        {"sub": "x"},
        {"iss": "a b", "sub": "x"},
        {"iss": "x", "sub": ""},
        {"iss": "x", "sub": "x", "sid": 1},
    ],
)
def test_claims_without_a_name(claims: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        labels_of(claims)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"algorithms": ["HS256"]}, InvalidArgument),
        ({"algorithms": ["RS256", "none"]}, InvalidArgument),
        ({"algorithms": "RS256"}, InvalidArgumentType),
        ({"algorithms": []}, InvalidArgument),
        ({"client_id": ""}, InvalidArgument),
        ({"client_id": []}, InvalidArgument),
        ({"client_id": 7}, InvalidArgumentType),
        ({"issuer": ""}, InvalidArgument),
        ({"issuer": 7}, InvalidArgumentType),
        ({"leeway": -1}, InvalidArgument),
        ({"leeway": 601}, InvalidArgument),
        ({"leeway": 1.5}, InvalidArgumentType),
        ({"jwks": "http://id.example/jwks"}, InvalidArgument),
        ({"jwks": 7}, InvalidArgumentType),
        ({"jwks": None, "issuer": "http://id.example"}, InvalidArgument),
        ({"jwks": None, "issuer": "https://[x"}, InvalidArgument),
        ({"storage": 7}, InvalidArgumentType),
    ],
    ids=str,
)
def test_arguments_that_are_refused(options: dict[str, Any], error: type[Exception]) -> None:
    given: dict[str, Any] = {
        "storage": SessionStorageMemory(),
        "issuer": "https://id.example",
        "client_id": CLIENT,
    }
    given |= {"jwks": dict} | options
    with pytest.raises(error):
        BackChannelLogout(given.pop("storage"), **given)
