"""The guard against requests that other sites have a browser send."""

from __future__ import annotations

from typing import Any

import pytest

from sqlsessions import InvalidArgument, InvalidArgumentType
from sqlsessions.integrations.cross_origin import CrossOriginGuard

PAY = "https://pay.example"


async def status(*headers: tuple[str, str], method: str = "POST", kind: str = "http", **options: Any) -> int:
    """The status of the answer to a request for ``service.test``; 403 for a WebSocket that is refused."""
    sent: list[Any] = []

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        sent.append({"status": 200})

    async def send(message: Any) -> None:
        sent.append({"status": 403} if message["type"] == "websocket.close" else message)

    pairs = [(name.lower().encode(), value.encode()) for name, value in (("Host", "service.test"), *headers)]
    scope = {"type": kind, "method": method, "headers": pairs}
    await CrossOriginGuard(app, **options)(scope, None, send)
    found: int = sent[0]["status"]
    return found


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], 200),
        ([("Sec-Fetch-Site", "same-origin")], 200),
        ([("Sec-Fetch-Site", "none")], 200),
        ([("Sec-Fetch-Site", "same-site")], 403),
        ([("Sec-Fetch-Site", "cross-site")], 403),
        ([("Sec-Fetch-Site", "")], 403),
        ([("Sec-Fetch-Site", "same-origin"), ("Sec-Fetch-Site", "cross-site")], 403),
        ([("Sec-Fetch-Site", "same-origin"), ("Origin", "https://evil.example")], 200),
        ([("Sec-Fetch-Site", "cross-site"), ("Origin", "https://service.test")], 403),
        ([("Origin", "https://service.test")], 200),
        ([("Origin", "https://SERVICE.test")], 200),
        ([("Origin", "https://service.test:8443")], 403),
        ([("Origin", "https://service.test.evil.example")], 403),
        ([("Origin", "null")], 403),
        ([("Origin", "service.test")], 403),
        ([("Origin", "https://service.test"), ("Origin", "https://evil.example")], 403),
        ([("Origin", PAY)], 403),
    ],
    ids=str,
)
async def test_a_request_of_another_origin_is_refused(headers: list[tuple[str, str]], expected: int) -> None:
    assert await status(*headers) == expected
    assert await status(*headers, method="DELETE") == expected
    assert await status(*headers, kind="websocket", method="GET") == expected
    for method in ("GET", "HEAD", "OPTIONS"):
        assert await status(*headers, method=method) == 200


async def test_a_trusted_origin_passes() -> None:
    for more in ((), (("Sec-Fetch-Site", "cross-site"),)):
        assert await status(("Origin", PAY), *more, trusted_origins=[PAY]) == 200
        assert await status(("Origin", f"{PAY}.evil"), *more, trusted_origins=[PAY]) == 403
    assert await status(("Origin", PAY), ("Origin", PAY), trusted_origins=[PAY]) == 403


async def test_a_lifespan_passes() -> None:
    assert await status(kind="lifespan") == 200


@pytest.mark.parametrize(
    ("trusted", "sent", "expected"),
    [
        (f"{PAY}:443", PAY, 200),
        ("http://pay.example:80", "http://pay.example", 200),
        (f"{PAY}:80", f"{PAY}:80", 200),
        (f"{PAY}:80", PAY, 403),
        (f"{PAY}:8443", f"{PAY}:8443", 200),
        (f"{PAY}:8443", PAY, 403),
        ("https://[::1]:443", "https://[::1]", 200),
        ("https://pay_ment.example", "https://pay_ment.example", 200),
        ("moz-extension://5f0c", "moz-extension://5f0c", 200),
    ],
)
async def test_browsers_leave_out_the_port_that_is_the_scheme_s_own(
    trusted: str, sent: str, expected: int
) -> None:
    assert await status(("Origin", sent), trusted_origins=[trusted]) == expected


@pytest.mark.parametrize(
    "origin",
    [
        "pay.example",
        "https://",
        "https://pay.example/",
        "https://pay.example?a",
        "https://Pay.example",
        "https://a@b",
        "https://*.example",
        "https://pay.example:",
        "https://pay.example:0443",
        "https://pay.example:port",
        "https://pay.example:65536",
        "https://pay..example",
        "https://p y.example",
        "https://pay.example\n",
        "https://bezahlen.\u00f6sterreich",
        "https://[::1",
        "https://[1:2]",
        "https://[0:0:0:0:0:0:0:1]",
        "null",
        "*",
        "",
    ],
)
def test_a_trusted_origin_is_an_origin(origin: str) -> None:
    with pytest.raises(InvalidArgument, match="a trusted origin must be like"):
        CrossOriginGuard(None, [origin])  # type: ignore[arg-type]


def test_a_trusted_origin_is_text() -> None:
    with pytest.raises(InvalidArgumentType, match="not bytes"):
        CrossOriginGuard(None, [PAY.encode()])  # type: ignore[arg-type, list-item]
