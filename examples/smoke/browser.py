"""What a browser does with the service."""

import hashlib
import re
from collections.abc import Iterator

import httpx

from . import expect

FILE_SIZE = 64 * 1024 * 1024
PIECE = 64 * 1024
BOUNDARY = "smoke-test-boundary"


class Browser(httpx.Client):
    """One browser, with cookies of its own, that follows redirects."""

    def __init__(self, url: str) -> None:
        super().__init__(base_url=url, follow_redirects=True, timeout=60, trust_env=False)

    @property
    def id(self) -> str:
        """The session id in the cookie; empty if there is none."""
        return self.cookies.get("session") or ""

    def bring(self, id: str) -> None:
        """Replace the cookies by one with this session id."""
        self.cookies.clear()
        self.cookies.set("session", id, domain="127.0.0.1", path="/")

    def log_in(self) -> None:
        """Log in as the one user of the smoke test."""
        expect(self.post("/login", data={"user": "ada"}).url.path == "/", "logging in failed")

    def logged_in(self) -> bool:
        """Whether the service takes the cookie."""
        return self.get("/").raise_for_status().url.path == "/"

    def shown(self, pattern: str) -> list[str]:
        """What the home page shows where the pattern matches."""
        return re.findall(pattern, self.get("/").raise_for_status().text)

    def csrf(self) -> str:
        """The token of the page's forms."""
        return self.shown('name="csrf" value="([^"]+)"')[0]

    def counter(self) -> int:
        """The counter that the page shows."""
        return int(self.shown(r'id="counter">(\d+)<')[0])

    def keys(self) -> list[str]:
        """The keys of the sessions that the page lists, newest first."""
        return self.shown('name="key" value="([^"]+)"')

    def submit(self, path: str, **fields: str) -> None:
        """Send a form of the page."""
        self.post(path, data={"csrf": self.csrf(), **fields}).raise_for_status()

    def upload(self) -> None:
        """Send the file by the page's form."""
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        self.post("/file", content=upload_form(self.csrf()), headers=headers).raise_for_status()

    def download(self) -> str:
        """Receive the file and check its size; its SHA-256."""
        checksum, size = hashlib.sha256(), 0
        with self.stream("GET", "/file") as response:
            expect(response.is_success, f"the download was answered by {response.status_code}")
            for piece in response.iter_bytes():
                checksum.update(piece)
                size += len(piece)
        expect(response.headers["content-length"] == str(FILE_SIZE), "Content-Length is wrong")
        expect(size == FILE_SIZE, f"{size} bytes came back")
        return checksum.hexdigest()


def file_pieces() -> Iterator[bytes]:
    """The file to upload, always the same noise."""
    for number in range(FILE_SIZE // PIECE):
        yield hashlib.shake_128(number.to_bytes(8)).digest(PIECE)


def upload_form(csrf: str) -> Iterator[bytes]:
    """The upload form as a browser sends it."""
    yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="csrf"\r\n\r\n{csrf}\r\n'.encode()
    yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="noise.bin"\r\n'.encode()
    yield b"Content-Type: application/octet-stream\r\n\r\n"
    yield from file_pieces()
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


def file_checksum() -> str:
    """SHA-256 of the file."""
    checksum = hashlib.sha256()
    for piece in file_pieces():
        checksum.update(piece)
    return checksum.hexdigest()
