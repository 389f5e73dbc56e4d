"""Uploads and downloads, whole, odd and interrupted."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from examples.fastapi_service.download import content_disposition
from sqlsessions import ManagedSessionStorage, SessionStorageMemory

from .browser import Browser, count

BOUNDARY = "boundary"


@pytest.mark.parametrize(
    "content", [b"", b"small\r\n--boundary\r\n", bytes(range(256)) * 12_000], ids=["empty", "small", "3 MB"]
)
async def test_file_comes_back(browser: Browser, content: bytes) -> None:
    await browser.log_in()
    await browser.upload("first.bin", b"longer than the small one, but replaced")
    await browser.upload("a.bin", content, "image/png; x=y")
    response = await browser.get("/file")
    assert hashlib.sha256(response.content).digest() == hashlib.sha256(content).digest()
    assert response.headers["content-length"] == str(len(content))
    assert response.headers["content-type"] == "image/png"
    assert response.headers["content-disposition"].startswith('attachment; filename="a.bin";')
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_no_file(browser: Browser) -> None:
    await browser.log_in()
    assert (await browser.get("/file")).status_code == 404


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ('"quoted".txt', "%22quoted%22.txt"),
        ("grüße €.txt", "gr%C3%BC%C3%9Fe%20%E2%82%AC.txt"),
        ("two\r\nlines.txt", "two__lines.txt"),
        ("../../etc/passwd", "passwd"),
    ],
)
async def test_file_names(browser: Browser, sent: str, kept: str) -> None:
    await browser.log_in()
    assert (await browser.upload(sent, b"x")).status_code == 200
    disposition = (await browser.get("/file")).headers["content-disposition"]
    assert disposition.partition("filename*=UTF-8''")[2] == kept


def test_plain_file_name_is_harmless() -> None:
    assert content_disposition('a"\r\n;ü.txt').startswith('attachment; filename="a_____.txt"; filename*=')


@pytest.mark.parametrize("type", ["", "text/html\nX-Evil: 1", "ü/ü", "nonsense"])
async def test_odd_types_are_not_passed_on(browser: Browser, type: str) -> None:
    await browser.log_in()
    await browser.upload("a", b"x", type)
    assert (await browser.get("/file")).headers["content-type"] == "application/octet-stream"


def form(csrf: str, *rest: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{csrf}\r\n--{BOUNDARY}\r\n'
    return head.encode() + b"".join(rest)


FILE = b'Content-Disposition: form-data; name="file"; filename="new.txt"\r\n\r\n'
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"


@pytest.mark.parametrize(
    ("rest", "type"),
    [
        ([FILE, b"cut short"], MULTIPART),
        ([FILE, b"data\r\n--boundary\r\n", FILE, b"two\r\n--boundary--\r\n"], MULTIPART),
        ([FILE.replace(b"new.txt", b""), b"\r\n--boundary--\r\n"], MULTIPART),
        ([FILE.replace(b'"file"', b'"else"'), b"data\r\n--boundary--\r\n"], MULTIPART),
        ([b"no header\r\n\r\n", b"data\r\n--boundary--\r\n"], MULTIPART),
        ([], "multipart/form-data"),
        ([], "text/plain"),
    ],
    ids=["cut", "two files", "none chosen", "other field", "malformed", "no boundary", "no form"],
)
async def test_bad_forms_leave_the_file(browser: Browser, rest: list[bytes], type: str) -> None:
    await browser.log_in()
    await browser.upload("old.txt", b"old")
    body = form(await browser.csrf(), *rest)
    response = await browser.post("/file", content=body, headers={"Content-Type": type})
    assert response.status_code == 400
    assert (await browser.get("/file")).content == b"old"


async def test_upload_in_single_bytes(browser: Browser) -> None:
    await browser.log_in()
    body = form(await browser.csrf(), FILE, b"\r\n--bound", b"\r\n--boundary--\r\n")

    async def bytewise() -> AsyncIterator[bytes]:
        for byte in body:
            yield bytes([byte])

    response = await browser.post("/file", content=bytewise(), headers={"Content-Type": MULTIPART})
    assert response.status_code == 200
    assert (await browser.get("/file")).content == b"\r\n--bound"


async def asgi(browser: Browser, method: str, messages: Iterable[dict[str, Any]], send: Any) -> None:
    """Call /file below HTTP, so that the client may vanish; it does after the messages."""
    waiting = [*messages, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    headers = [(b"cookie", f"session={browser.id}".encode()), (b"content-type", MULTIPART.encode())]
    scope = {"type": "http", "method": method, "path": "/file", "query_string": b"", "headers": headers}
    await browser.app(scope, receive, send)


async def test_leaving_during_an_upload_leaves_the_file(browser: Browser) -> None:
    await browser.log_in()
    await browser.upload("old.txt", b"old")
    pieces = [form(await browser.csrf(), FILE), *[b"x" * 65536] * 20]

    async def send(message: dict[str, Any]) -> None:
        assert message.get("status") in (400, None)

    messages = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    await asgi(browser, "POST", messages, send)
    assert (await browser.get("/file")).content == b"old"
    assert "old.txt" in (await browser.get("/")).text


async def test_leaving_during_a_download_ends_the_reading(browser: Browser) -> None:
    await browser.log_in()
    await browser.upload("a.bin", bytes(1_000_000))
    sent: list[str] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message["type"])
        await asyncio.sleep(3600)  # a network that takes nothing

    async with asyncio.timeout(10):
        await asgi(browser, "GET", [{"type": "http.request"}], send)
    assert len(sent) <= 1
    assert (await browser.get("/file")).status_code == 200


async def test_logging_out_during_an_upload_sticks(browser: Browser, storage: ManagedSessionStorage) -> None:
    await browser.log_in()
    csrf = await browser.csrf()

    async def content() -> AsyncIterator[bytes]:
        yield form(csrf, FILE, b"data")
        await browser.post("/logout", data={"csrf": csrf})
        yield b"\r\n--boundary--\r\n"

    response = await browser.post("/file", content=content(), headers={"Content-Type": MULTIPART})
    assert response.url.path == "/login"
    assert await count(storage.sessions()) == 0


async def test_a_file_too_large_leaves_the_old() -> None:
    async with Browser(SessionStorageMemory(max_bytes=10_000)) as browser:
        await browser.log_in()
        await browser.upload("a.txt", b"old")
        assert (await browser.upload("a.txt", bytes(20_000))).status_code == 413
        assert (await browser.get("/file")).content == b"old"
