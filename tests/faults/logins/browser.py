"""A browser with a cookie jar, whose requests and responses take their time and overtake each other."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import Any

from aiohttp import ClientSession

COOKIE = "session"


@dataclass
class Losses:
    """What must not happen, counted, with an example of each."""

    rounds: int = 0
    requests: int = 0
    errors: int = 0
    lost_logins: int = 0
    lost_logouts: int = 0
    foreign_data: int = 0
    examples: dict[str, str] = field(default_factory=dict)

    def count(self, kind: str, example: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        self.examples.setdefault(kind, example)

    @property
    def total(self) -> int:
        """How much was lost."""
        return self.errors + self.lost_logins + self.lost_logouts + self.foreign_data


class Browser:
    """A user's browser.

    Args:
        http: Sends the requests, without a jar of its own.
        workers: The addresses of the service; each request goes to any of them.
        number: Of the browser.
        delay: The longest delay of a request, and of a response, in seconds.
        losses: Where losses are counted.

    Attributes:
        id: The session cookie; None if there is none.
    """

    def __init__(
        self, http: ClientSession, workers: Sequence[str], number: int, delay: float, losses: Losses
    ) -> None:
        self._http = http
        self._workers = workers
        self._number = number
        self._name = f"b{number}"
        self._delay = delay
        self._losses = losses
        self._polls: set[asyncio.Task[Any]] = set()
        self._users: set[str | None] = {None}
        self.id: str | None = None

    async def live(self, rounds: int) -> None:
        """Log in and out again and again, while a page polls."""
        for number in range(rounds):
            await self._round(f"{self._number}0{number:05}")
        await asyncio.gather(*self._polls)

    async def _round(self, user: str) -> None:
        self._users.add(user)
        if random.random() < 0.5:
            await self._send("put", browser=self._name)
        visitors = self.id
        await self._log_in(user)
        self._poll()
        await self._send("regenerate")
        await self._expect(user, "lost_logins", "after the new id")
        self._poll()
        users = self.id
        await self._send("logout")
        for id in {visitors, users} - {None}:
            if (await self._send("show", id=id, keep=False)).get("of") is not None:
                self._losses.count("lost_logouts", f"{user}: an id from before the logout gives access")
        if random.random() < 0.5:
            await self._expect(None, "lost_logouts", "after the logout")
        self._losses.rounds += 1

    async def _log_in(self, user: str) -> None:
        """Submit a login, sometimes twice; either response counts."""
        self._poll()
        times = random.choice((1, 2))
        submitted = [asyncio.create_task(self._send("login", user=user, of=user)) for _ in range(times)]
        await asyncio.wait(submitted, return_when=asyncio.FIRST_COMPLETED)
        await self._expect(user, "lost_logins", "after the login")
        if times > 1:
            await asyncio.gather(*submitted)
            await self._expect(user, "lost_logins", "after the second response")

    def _poll(self) -> None:
        """Look and write, without waiting for the responses: they arrive during what is done next, or later."""
        if self.id is None:
            return  # a browser without a cookie is just another one to the service
        for sent in (self._send("show", id=self.id), self._send("put", id=self.id, note=self._name)):
            poll = asyncio.create_task(sent)
            self._polls.add(poll)
            poll.add_done_callback(self._polls.discard)

    async def _expect(self, user: str | None, loss: str, when: str) -> None:
        found = (await self._send("show")).get("of")
        if found != user:
            self._losses.count(loss, f"{user}: it is {found} {when}")

    async def _send(
        self, path: str, *, id: str | None = None, keep: bool = True, **query: str
    ) -> dict[str, Any]:
        """Send a request, with the cookie of now or an id; keep the one that the response sets, once it arrives."""
        sent = id or self.id
        headers = {} if sent is None else {"Cookie": f"{COOKIE}={sent}"}
        if random.random() < 0.5:
            headers["Hold"] = "1"
        await self._pause()
        url = f"{random.choice(self._workers)}/{path}"
        method = "GET" if path == "show" else "POST"
        async with self._http.request(method, url, params=query, headers=headers) as response:
            body = await response.read()
            set_cookies = response.headers.getall("Set-Cookie", [])
        await self._pause()
        self._losses.requests += 1
        if not response.ok:
            if (path, response.status) != ("put", 400):  # Django's answer where the session ended meanwhile
                self._losses.count("errors", f"{path}: {response.status}")
            return {}
        if keep:
            self._keep(set_cookies)
        shown: dict[str, Any] = json.loads(body) if path == "show" else {}
        self._check(shown)
        return shown

    def _keep(self, headers: list[str]) -> None:
        for header in headers:
            if (cookie := SimpleCookie(header).get(COOKIE)) is None:
                continue  # a framework's other cookie
            self.id = None if cookie["max-age"] == "0" else cookie.value

    def _check(self, answer: dict[str, Any]) -> None:
        """Whether data is this browser's, and of one of its users."""
        strange = {answer.get("browser"), answer.get("note")} - {None, self._name}
        if strange or answer.get("of") not in self._users:
            self._losses.count("foreign_data", f"{self._name}: {answer}")

    async def _pause(self) -> None:
        await asyncio.sleep(random.random() * self._delay)
