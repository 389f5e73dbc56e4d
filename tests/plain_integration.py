"""An integration as a third party may write it: an ASGI application that uses a storage and nothing else of ours."""

import json
import logging
from typing import Any
from urllib.parse import parse_qsl

from sqlsessions import (
    DEFAULT,
    KEEP,
    ManagedSessionStorage,
    SessionConflict,
    SessionInfo,
    SessionNotFound,
    Snapshot,
    StorageUnavailable,
    new_session_id,
)
from sqlsessions.storage import Default
from sqlsessions.testing import Gate

ID_LENGTH = len(new_session_id())
SMALL = "the plain integration has no such setting"
FOLLOWS = "the plain integration drops what a slow request changed"
ONE = "the plain integration takes one cookie"
LACKS = {
    "a_login_may_keep_the_id": SMALL,
    "an_absolute_timeout_ends_a_session_in_use": SMALL,
    "a_session_may_have_an_expiry_of_its_own": SMALL,
    "a_look_extends_a_session_with_an_expiry_of_its_own": SMALL,
    "a_look_extends_a_session_and_its_cookie": SMALL,
    "the_cookie_is_as_set": SMALL,
    "the_cookie_may_be_partitioned": SMALL,
    "a_slow_change_follows_a_new_id": FOLLOWS,
    "the_cookie_of_a_long_session_is_renewed": SMALL,
    "of_several_cookies_the_live_one_is_used": ONE,
    "of_several_live_sessions_the_newest_is_used": ONE,
    "a_logout_ends_the_sessions_of_several_cookies": ONE,
    "few_of_many_cookies_are_looked_up": ONE,
}


class Visit:
    """A request and its session."""

    def __init__(self, scope: Any, cookie_name: str) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        name, _, value = headers.get("cookie", "").partition("=")
        self.presented = value if name == cookie_name else None
        self.held = "hold" in headers
        self.https = scope["scheme"] == "https"
        self.query = dict(parse_qsl(scope["query_string"].decode()))
        self.looked = self.stale = self.moved = self.ended = self.rotates = False
        self.id: str | None = None
        self.info: SessionInfo | None = None
        self.data: dict[str, Any] = {}
        self.before = "{}"
        self.subject: Any = KEEP
        self.cookie: str | None = None


class Plain:
    """The standard application."""

    def __init__(
        self, storage: ManagedSessionStorage, gate: Gate, *, max_age: float | None = None, **settings: Any
    ) -> None:
        if settings:
            raise TypeError(SMALL)
        self.storage = storage
        self.gate = gate
        self.max_age = max_age

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        visit = Visit(scope, "session")
        try:
            status, result = await self.respond(scope["path"][1:], visit)
            if visit.looked:
                await self.commit(visit)
        except StorageUnavailable:
            status, result = await self.unavailable(visit)
        headers = [(b"content-type", b"application/json"), *self.headers(visit, status)]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(result).encode()})

    async def respond(self, route: str, visit: Visit) -> tuple[int, Any]:
        if route == "untouched":
            return 200, None
        await self.look(visit)
        if visit.held:
            await self.gate.wait()
        result: Any = None
        match route:
            case "show":
                result = visit.data
            case "put" | "leave" | "refuse":
                visit.data.update(visit.query)
            case "nest":
                visit.data.setdefault("list", []).append(1)
            case "login":
                visit.subject, visit.rotates = visit.query.pop("user"), True
                if visit.info is not None and visit.info.subject not in (None, visit.subject):
                    visit.data = {}
                visit.data.update(visit.query)
            case "logout":
                visit.ended = True
            case "regenerate":
                visit.rotates = True
            case "replace":
                visit.data, visit.rotates = dict(visit.query), True
            case "sessions":
                result = [info.key async for info in self.storage.sessions(self.user(visit))]
            case "end":
                result = await self.end(visit)
            case "end_others":
                result = await self.storage.revoke(self.user(visit), keep=visit.id)
            case _:
                return 501, None
        return {"leave": 302, "refuse": 404}.get(route, 200), result

    async def look(self, visit: Visit) -> None:
        """Read the session."""
        visit.looked = True
        if visit.presented is None:
            return
        if len(visit.presented) == ID_LENGTH:
            await self.take(visit, await self.storage.load(visit.presented))
            if visit.id is None:
                visit.moved = await self.storage.successor(visit.presented) is not None
        visit.stale = visit.id is None and not visit.moved

    async def take(self, visit: Visit, snapshot: Snapshot | None) -> None:
        if snapshot is None:
            return
        visit.id, visit.info = visit.presented, snapshot.info
        visit.data = self.decoded(snapshot.data)
        visit.before = json.dumps(visit.data)

    def decoded(self, data: bytes) -> dict[str, Any]:
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if isinstance(found, dict):
            return found
        logging.getLogger(__name__).warning("a session cannot be decoded")
        return {}

    def user(self, visit: Visit) -> str:
        assert visit.info is not None
        assert visit.info.subject is not None
        return visit.info.subject

    async def end(self, visit: Visit) -> bool:
        """End a listed session."""
        keys = [info.key async for info in self.storage.sessions(self.user(visit))]
        key = visit.query["key"]
        return key in keys and await self.storage.invalidate_key(key)

    async def commit(self, visit: Visit) -> None:
        """Store what changed."""
        if visit.ended:
            if visit.id is not None or visit.moved:
                await self.log_out(visit)
                visit.cookie = "null; Max-Age=0"
        elif visit.id is None:
            if visit.subject is not KEEP or (visit.data and not visit.moved):
                await self.create(visit)
            elif visit.stale:
                visit.cookie = "null; Max-Age=0"
        else:
            try:
                await self.update(visit)
            except SessionNotFound:
                await self.missed(visit)

    async def missed(self, visit: Visit) -> None:
        """Keep of a change to a session that has gone the login of a user."""
        assert visit.id is not None
        visit.cookie = None
        if visit.subject is KEEP:
            return
        moved = await self.storage.successor(visit.id)
        if moved is None or moved.info is None:
            before = json.loads(visit.before)
            visit.data = {key: value for key, value in visit.data.items() if before.get(key) != value}
        await self.create(visit)

    async def log_out(self, visit: Visit) -> None:
        assert visit.presented is not None
        await self.storage.invalidate(visit.presented)
        while (moved := await self.storage.successor(visit.presented)) and moved.info is not None:
            await self.storage.invalidate_key(moved.key)

    async def create(self, visit: Visit) -> None:
        visit.id = self.fresh_id(visit)
        await self.write(visit, visit.data, if_match=0)
        self.set_cookie(visit)

    def fresh_id(self, visit: Visit) -> str:
        return new_session_id()

    async def update(self, visit: Visit) -> None:
        assert visit.id is not None
        if visit.rotates:
            await self.rotate(visit)
        if self.changed(visit):
            await self.merge(visit)
            if self.max_age is not None:
                self.set_cookie(visit)

    def changed(self, visit: Visit) -> bool:
        return json.dumps(visit.data) != visit.before or visit.subject is not KEEP

    async def rotate(self, visit: Visit) -> None:
        assert visit.id is not None
        new = new_session_id()
        await self.storage.rotate(visit.id, new)
        visit.id = new
        self.set_cookie(visit)

    async def merge(self, visit: Visit) -> None:
        """Write the changes over what others wrote meanwhile."""
        assert visit.info is not None
        assert visit.id is not None
        before, data, version = json.loads(visit.before), visit.data, visit.info.version
        while True:
            try:
                await self.write(visit, data, if_match=version)
            except SessionConflict:
                if (snapshot := await self.storage.load(visit.id)) is None:
                    raise SessionNotFound("the session ended meanwhile") from None
                version, data = snapshot.info.version, self.decoded(snapshot.data)
                data |= {key: value for key, value in visit.data.items() if before.get(key) != value}
                data = {key: value for key, value in data.items() if key in visit.data or key not in before}
            else:
                return

    async def write(self, visit: Visit, data: dict[str, Any], *, if_match: int | None) -> None:
        assert visit.id is not None
        ttl: float | Default = DEFAULT if self.max_age is None else self.max_age
        await self.storage.write_bytes(
            visit.id, json.dumps(data).encode(), ttl=ttl, subject=visit.subject, if_match=if_match
        )

    def set_cookie(self, visit: Visit) -> None:
        age = "" if self.max_age is None else f"; Max-Age={self.max_age}"
        visit.cookie = f"{visit.id}{age}"

    def flags(self, visit: Visit) -> str:
        return "; HttpOnly; SameSite=Lax; Path=/" + ("; Secure" if visit.https else "")

    async def unavailable(self, visit: Visit) -> tuple[int, Any]:
        visit.cookie = None
        return 503, None

    def headers(self, visit: Visit, status: int) -> list[tuple[bytes, bytes]]:
        if not visit.looked:
            return []
        found = {"Vary": "Cookie", "Cache-Control": "no-store" if visit.cookie else "private"}
        if visit.cookie is not None:
            found["Set-Cookie"] = f"session={visit.cookie}{self.flags(visit)}"
        if status == 302:
            found["Location"] = "/show"
        if status == 503:
            found["Retry-After"] = "1"
        return [(name.encode(), value.encode()) for name, value in found.items()]
