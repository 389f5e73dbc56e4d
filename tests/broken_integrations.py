"""The contract on integrations that break it, each in one way; run by `test_contract_catches`.

And on a plain one that keeps it.
"""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sqlsessions import KEEP, ManagedSessionStorage, SessionNotFound, new_session_id
from sqlsessions.testing import Gate, IntegrationContract, Send, asgi

from .plain_integration import LACKS, Plain, Visit


class TestPlain(IntegrationContract):
    lacks = LACKS

    @asynccontextmanager
    async def client(
        self, storage: ManagedSessionStorage, gate: Gate, **settings: Any
    ) -> AsyncIterator[Send]:
        yield asgi(Plain(storage, gate, **settings))


class Adopting(Plain):
    """Begins a session under the id that the browser presents."""

    def fresh_id(self, visit: Visit) -> str:
        return visit.presented or new_session_id()


class Eager(Plain):
    """Reads the session of every request."""

    async def respond(self, route: str, visit: Visit) -> tuple[int, Any]:
        if route == "untouched":
            await self.look(visit)
        return await super().respond(route, visit)


class Writing(Plain):
    """Writes whatever was read."""

    def changed(self, visit: Visit) -> bool:
        return True


class Losing(Plain):
    """Writes its own state over that of others, though not over a logout."""

    async def merge(self, visit: Visit) -> None:
        assert visit.id is not None
        if (info := await self.storage.info(visit.id)) is None:
            raise SessionNotFound("the session ended meanwhile")
        await self.write(visit, visit.data, if_match=info.version)


class Resurrecting(Plain):
    """Begins a session that was ended meanwhile anew."""

    async def merge(self, visit: Visit) -> None:
        try:
            await super().merge(visit)
        except SessionNotFound:
            await self.write(visit, visit.data, if_match=0)


class Renewing(Plain):
    """Answers a change that came after the logout with a new session."""

    async def update(self, visit: Visit) -> None:
        try:
            await super().update(visit)
        except SessionNotFound:
            await self.create(visit)


class Shallow(Plain):
    """Notices what is assigned, and no change within a value."""

    def changed(self, visit: Visit) -> bool:
        return visit.data.keys() != json.loads(visit.before).keys() or visit.subject is not KEEP


class Fixed(Plain):
    """Keeps the id at login."""

    async def rotate(self, visit: Visit) -> None:
        if visit.subject is KEEP:
            await super().rotate(visit)


class Copying(Plain):
    """Gives a session a new id and leaves the old one alive."""

    async def rotate(self, visit: Visit) -> None:
        visit.id = new_session_id()
        await self.write(visit, visit.data, if_match=0)
        snapshot = await self.storage.load(visit.id)
        assert snapshot is not None
        visit.info = snapshot.info
        self.set_cookie(visit)


class Forgetting(Plain):
    """Logs out in the browser alone."""

    async def log_out(self, visit: Visit) -> None:
        pass


class Local(Plain):
    """Ends no session whose id another process changed."""

    async def log_out(self, visit: Visit) -> None:
        assert visit.presented is not None
        await self.storage.invalidate(visit.presented)


class Clearing(Plain):
    """Takes an id that was changed for one that was never there."""

    async def look(self, visit: Visit) -> None:
        await super().look(visit)
        visit.stale, visit.moved = visit.stale or visit.moved, False


class Missing(Plain):
    """Drops a login whose session has gone."""

    async def missed(self, visit: Visit) -> None:
        visit.cookie = None


class Hiding(Plain):
    """Takes an unavailable storage for an empty one."""

    async def unavailable(self, visit: Visit) -> tuple[int, Any]:
        return 200, {}


class Talkative(Plain):
    """Logs the id of a session that could not be read."""

    async def unavailable(self, visit: Visit) -> tuple[int, Any]:
        logging.getLogger(__name__).error("session %s is unavailable", visit.presented)
        return await super().unavailable(visit)


class Strict(Plain):
    """Raises where data cannot be decoded."""

    def decoded(self, data: bytes) -> dict[str, Any]:
        return dict(json.loads(data))


class Lenient(Plain):
    """Takes data that cannot be decoded for none, in a session that goes on."""

    def decoded(self, data: bytes) -> dict[str, Any]:
        return super().decoded(data) or {}


class Trusting(Plain):
    """Ends any session whose key is known."""

    async def end(self, visit: Visit) -> bool:
        return await self.storage.invalidate_key(visit.query["key"])


class Immortal(Plain):
    """Sets the age of the cookie alone."""

    async def write(self, visit: Visit, data: dict[str, Any], *, if_match: int | None) -> None:
        assert visit.id is not None
        payload = json.dumps(data).encode()
        await self.storage.write_bytes(visit.id, payload, ttl=None, subject=visit.subject, if_match=if_match)


class Exposed(Plain):
    """Shows the cookie to scripts."""

    def flags(self, visit: Visit) -> str:
        return super().flags(visit).replace("; HttpOnly", "")


class Insecure(Plain):
    """Sends the cookie over http what was set over https."""

    def flags(self, visit: Visit) -> str:
        return super().flags(visit).replace("; Secure", "")


class Cacheable(Plain):
    """Says nothing to caches."""

    def headers(self, visit: Visit, status: int) -> list[tuple[bytes, bytes]]:
        hidden = (b"Vary", b"Cache-Control")
        return [header for header in super().headers(visit, status) if header[0] not in hidden]


class Baking(Plain):
    """Sets a cookie for a bearer too."""

    def given(self, visit: Visit, cookie: str) -> tuple[str, str]:
        visit.bearer = False
        return super().given(visit, cookie)


class Believing(Plain):
    """Begins a session under the id of a bearer."""

    def fresh_id(self, visit: Visit) -> str:
        return (visit.bearer and visit.presented) or new_session_id()


class Open(Plain):
    """Takes bearers that nobody asked for."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.takes_bearers = True


class Ageless(Plain):
    """Takes any login for a recent one."""

    def is_fresh(self, visit: Visit) -> bool:
        return visit.id in self.logins


class Lasting(Plain):
    """Keeps the id when the user logs in again."""

    async def rotate(self, visit: Visit) -> None:
        if not visit.authenticates or visit.subject is not KEEP:
            await super().rotate(visit)


class Nameless(Plain):
    """Names the subject of a key, and keeps the id."""

    def name(self, visit: Visit, named: Any) -> None:
        super().name(visit, named)
        visit.rotates = False


class Mixing(Plain):
    """Keeps the data of the user from before."""

    def name(self, visit: Visit, named: Any) -> None:
        visit.subject, visit.rotates = named, True


class Patient(Plain):
    """Gives guests the time of users."""

    def ttl_of(self, visit: Visit) -> Any:
        return self.ttl


class Hasty(Plain):
    """Gives users the time of the guests that they were."""

    def ttl_of(self, visit: Visit) -> Any:
        return self.anonymous_ttl if visit.info and visit.info.subject is None else super().ttl_of(visit)


class Oblivious(Plain):
    """Notes no use of sessions."""

    def is_use_due(self, visit: Visit) -> bool:
        return False


BROKEN: list[type[Plain]] = [
    Adopting, Eager, Writing, Losing, Resurrecting, Renewing, Shallow, Fixed, Copying, Forgetting, Local,
    Clearing, Missing, Hiding,
    Talkative, Strict, Lenient, Trusting, Immortal, Exposed, Insecure, Cacheable,
    Baking, Believing, Open, Ageless, Lasting, Nameless, Mixing, Patient, Hasty, Oblivious,
]  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
class TestBroken(IntegrationContract):
    @pytest.fixture(autouse=True)
    def _choose(self, broken: type[Plain]) -> None:
        self.broken = broken

    @asynccontextmanager
    async def client(
        self, storage: ManagedSessionStorage, gate: Gate, **settings: Any
    ) -> AsyncIterator[Send]:
        yield asgi(self.broken(storage, gate, **settings))


class TestOverstated(TestPlain):
    """Declares a test that passes."""

    lacks = LACKS | {"a_session_is_kept": "the plain integration keeps nothing"}
