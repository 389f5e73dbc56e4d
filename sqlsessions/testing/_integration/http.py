"""Requests and responses, and how applications of either gateway interface are called."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

HOST = "service.test"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request without a body.

    Attributes:
        method: ``"GET"`` or ``"POST"``.
        path: The path, such as ``"/put"``, which needs no quoting.
        query: The query string, quoted.
        headers: Names and values. There may be ``Cookie`` and ``Hold``; ``Host`` is there.
        scheme: ``"http"``, or ``"https"`` if the application is to take it for a secure one.
    """

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    scheme: str = "http"


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response.

    Attributes:
        status: The status code.
        headers: Names and values, as they were sent.
        body: The whole body.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes = field(repr=False)

    def all(self, name: str) -> list[str]:
        """The values of a header, whose name may be in upper or lower case."""
        return [value for found, value in self.headers if found.lower() == name.lower()]

    def names(self) -> set[str]:
        """The names of the headers, in lower case."""
        return {name.lower() for name, _ in self.headers}

    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


Send = Callable[[HttpRequest], Awaitable[HttpResponse]]
"""Sends a request and gives the response; called from many tasks at once. Follows no redirect."""

Message = MutableMapping[str, Any]


def asgi(app: Callable[..., Awaitable[None]]) -> Send:
    """Calls an ASGI application: each request in the caller's task, without a lifespan.

    Args:
        app: The application. What it raises is raised by the call.
    """

    async def send(request: HttpRequest) -> HttpResponse:
        begun: dict[str, Any] = {}
        pieces: list[bytes] = []
        complete = asyncio.Event()
        body = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Message:
            if (message := next(body, None)) is not None:
                return message
            await complete.wait()
            return {"type": "http.disconnect"}

        async def respond(message: Message) -> None:
            if message["type"] == "http.response.start":
                begun.update(message)
            elif message["type"] == "http.response.body":
                pieces.append(message.get("body", b""))
                if not message.get("more_body", False):
                    complete.set()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": request.scheme,
            "path": request.path,
            "raw_path": request.path.encode(),
            "query_string": request.query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in request.headers.items()],
            "client": ("127.0.0.1", 50000),
            "server": (HOST, 443 if request.scheme == "https" else 80),
            "state": {},
        }
        await app(scope, receive, respond)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in begun["headers"]]
        return HttpResponse(begun["status"], headers, b"".join(pieces))

    return send


def wsgi(app: Callable[..., Iterable[bytes]]) -> Send:
    """Calls a WSGI application: each request in a thread of its own.

    Args:
        app: The application. What it raises is raised by the call.
    """

    def answer(request: HttpRequest) -> HttpResponse:
        begun: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
            begun[:] = [int(status.split(maxsplit=1)[0]), headers]

        environ = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query,
            "SERVER_NAME": HOST,
            "SERVER_PORT": "443" if request.scheme == "https" else "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": request.scheme,
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        environ |= {
            f"HTTP_{name.upper().replace('-', '_')}": value for name, value in request.headers.items()
        }
        pieces = app(environ, start_response)
        try:
            body = b"".join(pieces)
        finally:
            if close := getattr(pieces, "close", None):
                close()
        return HttpResponse(begun[0], begun[1], body)

    async def send(request: HttpRequest) -> HttpResponse:
        return await in_a_thread(lambda: answer(request))

    return send


async def in_a_thread(call: Callable[[], HttpResponse]) -> HttpResponse:
    """Run a call in a thread of its own: a pool would let only so many requests wait for each other."""
    loop = asyncio.get_running_loop()
    result: asyncio.Future[HttpResponse] = loop.create_future()

    def settle(response: HttpResponse | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        elif response is not None:
            result.set_result(response)

    def run() -> None:
        response, error = None, None
        try:
            response = call()
        except BaseException as raised:  # noqa: BLE001 (raised again where the call is awaited)
            error = raised
        loop.call_soon_threadsafe(settle, response, error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        return await result
    finally:
        thread.join()
