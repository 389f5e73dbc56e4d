"""The way of a file from a session to a browser."""

import asyncio
import re
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sqlsessions import ByteReadChannel

from .logins import File, Login, Logins


class Download(Response):
    """A log-in's file: the session's consumer is what sends it.

    Each piece is sent before the next is read, so that a slow browser slows the reading down and
    one piece at most is in memory. When the browser leaves, the reading is cancelled.

    Args:
        logins: Where the file is.
        login: Whose file it is.
    """

    def __init__(self, logins: Logins, login: Login) -> None:
        super().__init__()
        self._logins = logins
        self._login = login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the response, as ASGI has it.

        Raises:
            SessionNotFound: If there is no file; nothing was sent then.
        """

        async def consumer(file: File, channel: ByteReadChannel) -> None:
            self._describe(file)
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for piece in channel:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body"})

        reading = asyncio.create_task(self._logins.read_file(self._login, consumer))
        leaving = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await reading
        finally:
            reading.cancel()
            leaving.cancel()
            await asyncio.gather(reading, leaving, return_exceptions=True)

    def _describe(self, file: File) -> None:
        self.headers["Content-Length"] = str(file.size)
        self.headers["Content-Type"] = file.type
        self.headers["Content-Disposition"] = content_disposition(file.name)


def content_disposition(name: str) -> str:
    """A download under a name, in the two forms of RFC 6266: plain, and exact by RFC 5987."""
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", name)
    exact = quote(name, safe="", errors="replace")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}"


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
