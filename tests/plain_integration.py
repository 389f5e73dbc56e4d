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
OFTEN = "the plain integration sends the cookie with every write"
FORGETS = "the plain integration takes an ended session for one that never was"
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
    "frequent_changes_send_the_cookie_seldom_and_in_time": OFTEN,
    "a_slow_answer_leaves_the_new_cookie": OFTEN,
    "a_late_request_after_a_logout_leaves_the_next_cookie": FORGETS,
}


class Visit:
    """A request and its session."""

    def __init__(self, scope: Any, cookie_name: str) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        name, _, value = headers.get("cookie", "").partition("=")
        self.presented = value if name == cookie_name else None
        scheme, _, token = headers.get("authorization", "").partition(" ")
        self.bearer = self.presented is None and scheme == "Bearer"
        self.token = token or None
        self.held = "hold" in headers
        self.https = scope["scheme"] == "https"
        self.query = dict(parse_qsl(scope["query_string"].decode()))
        self.looked = self.stale = self.moved = self.ended = self.rotates = False
        self.id: str | None = None
        self.info: SessionInfo | None = None
        self.data: dict[str, Any] = {}
        self.before = "{}"
        self.subject: Any = KEEP
        self.authenticates = False
        self.cookie: str | None = None


class Plain:
    """The standard application."""

    def __init__(
        self, storage: ManagedSessionStorage, gate: Gate, *, ttl: float | None = None, **settings: Any
    ) -> None:
        self.takes_bearers = settings.pop("bearer", False)
        self.subject_key = settings.pop("subject_key", None)
        self.anonymous_ttl = settings.pop("anonymous_ttl", ttl)
        if settings.keys() - {"expire_at_browser_close"}:
            raise TypeError(SMALL)
        self.storage = storage
        self.gate = gate
        self.ttl = ttl
        self.logins: dict[str, float] = {}  # when the users logged in, by the ids of their sessions

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        visit = Visit(scope, "session")
        if visit.bearer and self.takes_bearers:
            visit.presented = visit.token
        else:
            visit.bearer = False
        try:
            status, result = await self.respond(scope["path"][1:], visit)
            if visit.looked:
                await self.commit(visit)
        except StorageUnavailable:
            status, result = await self.unavailable(visit)
        kind = b"application/problem+json" if status == 401 else b"application/json"
        headers = [(b"content-type", kind), *self.headers(visit, status)]
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
                visit.subject, visit.rotates, visit.authenticates = visit.query.pop("user"), True, True
                if visit.info is not None and visit.info.subject not in (None, visit.subject):
                    visit.data = {}
                visit.data.update(visit.query)
            case "logout":
                visit.ended = True
            case "regenerate":
                visit.rotates = True
            case "reauthenticate":
                visit.rotates = visit.authenticates = True
            case "sensitive":
                if not self.is_fresh(visit):
                    return 401, {"status": 401, "max_age": float(visit.query["seconds"])}
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
                moved = await self.storage.successor(visit.presented)
                visit.moved = moved is not None and moved.info is not None
        visit.stale = visit.id is None and not visit.moved

    async def take(self, visit: Visit, snapshot: Snapshot | None) -> None:
        if snapshot is None:
            return
        if (data := self.decoded(snapshot.data)) is None:
            return
        visit.id, visit.info, visit.data = visit.presented, snapshot.info, data
        visit.before = json.dumps(visit.data)

    def decoded(self, data: bytes) -> dict[str, Any] | None:
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            return found
        logging.getLogger(__name__).warning("a session cannot be read")
        return None

    def ttl_of(self, visit: Visit) -> Any:
        subject = (visit.info and visit.info.subject) if visit.subject is KEEP else visit.subject
        return self.anonymous_ttl if subject is None else self.ttl

    def user(self, visit: Visit) -> str:
        return (visit.info and visit.info.subject) or "a subject that nobody has"

    async def end(self, visit: Visit) -> bool:
        """End a listed session."""
        keys = [info.key async for info in self.storage.sessions(self.user(visit))]
        key = visit.query["key"]
        return key in keys and await self.storage.invalidate_key(key)

    async def commit(self, visit: Visit) -> None:
        """Store what changed."""
        named = visit.data.get(self.subject_key)
        if named != json.loads(visit.before).get(self.subject_key):
            self.name(visit, named)
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
        if visit.authenticates and visit.id is not None:
            self.logins[visit.id] = self.clock()

    def name(self, visit: Visit, named: Any) -> None:
        """Log in the user that the data names by now."""
        visit.subject, visit.rotates = named, True
        if visit.info is not None and visit.info.subject not in (None, named):
            visit.data = dict(visit.query)

    def is_fresh(self, visit: Visit) -> bool:
        since = self.logins.get(visit.id or "")
        return since is not None and self.clock() - since <= float(visit.query["seconds"])

    def clock(self) -> float:
        now: float = self.storage.clock()  # type: ignore[attr-defined]
        return now

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
            if self.ttl is not None:
                self.set_cookie(visit)
        elif self.is_use_due(visit):
            await self.storage.touch(visit.id)

    def is_use_due(self, visit: Visit) -> bool:
        every: float | None = self.storage.touch_every  # type: ignore[attr-defined]
        used = None if visit.info is None else visit.info.used_at
        return every is not None and used is not None and self.clock() - used.timestamp() >= every

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
                if (stored := self.decoded(snapshot.data)) is None:
                    raise SessionNotFound("the session cannot be read any more") from None
                version, data = snapshot.info.version, stored
                data |= {key: value for key, value in visit.data.items() if before.get(key) != value}
                data = {key: value for key, value in data.items() if key in visit.data or key not in before}
            else:
                return

    async def write(self, visit: Visit, data: dict[str, Any], *, if_match: int | None) -> None:
        assert visit.id is not None
        ttl: float | Default = DEFAULT if self.ttl is None else self.ttl_of(visit)
        await self.storage.write_bytes(
            visit.id, json.dumps(data).encode(), ttl=ttl, subject=visit.subject, if_match=if_match
        )

    def set_cookie(self, visit: Visit) -> None:
        age = "" if self.ttl is None else f"; Max-Age={self.ttl_of(visit)}"
        visit.cookie = f"{visit.id}{age}"

    def flags(self, visit: Visit) -> str:
        return "; HttpOnly; SameSite=Lax; Path=/" + ("; Secure" if visit.https else "")

    def given(self, visit: Visit, cookie: str) -> tuple[str, str]:
        """The header that gives the client its id."""
        if visit.bearer:
            return "X-Session-Token", cookie.partition(";")[0].replace("null", "")
        return "Set-Cookie", f"session={cookie}{self.flags(visit)}"

    async def unavailable(self, visit: Visit) -> tuple[int, Any]:
        visit.cookie = None
        return 503, None

    def headers(self, visit: Visit, status: int) -> list[tuple[bytes, bytes]]:
        if not visit.looked:
            return []
        varies = "Cookie, Authorization" if self.takes_bearers else "Cookie"
        found = {"Vary": varies, "Cache-Control": "no-store" if visit.cookie else "private"}
        if visit.cookie is not None:
            found |= dict([self.given(visit, visit.cookie)])
        if status == 401:
            found["WWW-Authenticate"] = 'Session error="insufficient_user_authentication"'
        if status == 302:
            found["Location"] = "/show"
        if status == 503:
            found["Retry-After"] = "1"
        return [(name.encode(), value.encode()) for name, value in found.items()]
