"""What `change` does with one session, by Starlette; all frameworks share it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sqlsessions import InvalidArgument, InvalidArgumentType, SessionInfo, SessionNotFound, StorageUnavailable
from sqlsessions.integrations._web.manager import SessionManager
from sqlsessions.integrations._web.merging import ATTEMPTS
from sqlsessions.integrations.starlette import Session, SessionMiddleware, change, load
from sqlsessions.testing import Browser, ManualClock, SpyStorage, asgi

from .routes import Data, visit

Step = Callable[[Request], Awaitable[Any]]


@asynccontextmanager
async def served(storage: SpyStorage, step: Step, **options: Any) -> AsyncIterator[Browser]:
    """A browser of a service that does a step at ``/step``."""

    async def respond(request: Request) -> Response:
        return JSONResponse(await step(request))

    async def put(request: Request) -> Response:
        request.session.update(request.query_params)
        return JSONResponse(None)

    async def login(request: Request) -> Response:
        (await load(request)).subject = request.query_params["user"]
        return JSONResponse(None)

    async def show(request: Request) -> Response:
        return JSONResponse(dict(request.session))

    endpoints = {"/step": respond, "/put": put, "/login": login, "/show": show}
    app = Starlette(
        routes=[Route(path, endpoint, methods=["GET", "POST"]) for path, endpoint in endpoints.items()],
        middleware=[Middleware(SessionMiddleware, storage=storage, **options)],
    )
    yield Browser(asgi(app), "session")


def manager_of(storage: SpyStorage) -> SessionManager:
    return SessionMiddleware(Starlette(), storage).manager


async def count(request: Request) -> int:
    return await change(request, visit)


async def test_it_costs_one_read_and_one_write(storage: SpyStorage) -> None:
    async with served(storage, count) as browser:
        await browser.begin(a=1)
        storage.calls.clear()
        assert (await browser.post("/step")).json() == 1
        assert storage.calls == ["read", "write"]
        assert await browser.data() == {"a": "1", "visits": 1}


async def test_a_visitor_gets_a_session(storage: SpyStorage) -> None:
    async with served(storage, count) as browser:
        assert (await browser.post("/step")).json() == 1
        assert storage.calls == ["write"]
        assert (await browser.post("/step")).json() == 2


async def test_without_data_no_session_is_begun(storage: SpyStorage) -> None:
    async with served(storage, lambda request: change(request, len)) as browser:
        response = await browser.post("/step")
        assert response.json() == 0
        assert browser.cookie(response) is None
        assert storage.calls == []


async def test_an_id_whose_session_ended_is_replaced(storage: SpyStorage, clock: ManualClock) -> None:
    async with served(storage, count) as browser:
        old = await browser.begin(a=1)
        await storage.invalidate(old)
        clock.advance(10)
        assert (await browser.post("/step")).json() == 1
        assert browser.has_id() != old
        assert await browser.data() == {"visits": 1}


async def test_what_the_request_changed_before_and_after_is_kept(storage: SpyStorage) -> None:
    async def step(request: Request) -> Any:
        request.session["before"] = 1
        seen = await change(request, lambda data: (visit(data), dict(data))[1])
        shown = dict(request.session)
        request.session["after"] = 1
        return [seen, shown]

    async with served(storage, step) as browser:
        await browser.begin(a=1)
        seen, shown = (await browser.post("/step")).json()
        assert seen == shown == {"a": "1", "before": 1, "visits": 1}
        assert await browser.data() == {"a": "1", "before": 1, "visits": 1, "after": 1}


async def test_a_login_before_it_is_written_first(storage: SpyStorage) -> None:
    async def step(request: Request) -> Any:
        session = await load(request)
        session.subject = "ann"
        return await change(request, visit)

    async with served(storage, step) as browser:
        old = await browser.begin(a=1)
        await browser.post("/step")
        assert browser.has_id() != old
        found = await storage.load(browser.has_id())
        assert found is not None
        assert found.info.subject == "ann"
        assert await browser.data() == {"a": "1", "visits": 1}


async def test_changes_of_other_requests_are_seen(storage: SpyStorage) -> None:
    async def step(request: Request) -> Any:
        request.session.get("a")  # is read now, and changed by another request before it is changed here
        await browser.other(browser.id).post("/put", a=2, b=3)
        return await change(request, lambda data: data.update(sum=int(data["a"]) + int(data["b"])))

    async with served(storage, step) as browser:
        await browser.begin(a=1)
        await browser.post("/step")
        assert await browser.data() == {"a": "2", "b": "3", "sum": 5}


async def test_a_function_that_raises_changes_nothing(storage: SpyStorage) -> None:
    def fail(data: Data) -> None:
        data["list"].append(1)
        raise KeyError

    async def step(request: Request) -> Any:
        with pytest.raises(KeyError):
            await change(request, fail)
        return await change(request, visit)

    async with served(storage, step) as browser:
        await browser.post("/put", a=1)
        await manager_change(storage, browser.has_id(), lambda data: data.update(list=[]))
        assert (await browser.post("/step")).json() == 1
        assert await browser.data() == {"a": "1", "list": [], "visits": 1}


async def manager_change(storage: SpyStorage, id: str, function: Callable[[Data], Any]) -> None:
    """Change a session as another process does."""
    manager = manager_of(storage)
    session = manager.open(id)
    await manager.load(session)
    async for data in manager.changing.attempts(session):
        function(data)


async def test_data_that_cannot_be_stored_changes_nothing(storage: SpyStorage) -> None:
    async def step(request: Request) -> Any:
        with pytest.raises(InvalidArgumentType):
            await change(request, lambda data: data.update(a=object()))
        return dict(request.session)

    async with served(storage, step) as browser:
        assert (await browser.post("/step")).json() == {}
        assert browser.id is None
        await browser.begin(a=1)
        assert (await browser.post("/step")).json() == {"a": "1"}
        assert await browser.data() == {"a": "1"}


async def test_an_ended_session_is_not_changed(storage: SpyStorage) -> None:
    async def step(request: Request) -> Any:
        request.session.get("a")
        await storage.invalidate(browser.has_id())
        with pytest.raises(SessionNotFound):
            await change(request, visit)

    async with served(storage, step) as browser:
        old = await browser.begin(a=1)
        response = await browser.post("/step")
        assert browser.cookie(response) is None
        assert await storage.load(old) is None
        assert [info async for info in storage.sessions()] == []


async def test_it_follows_a_new_id_unless_that_is_another_users(storage: SpyStorage) -> None:
    other = ""

    async def step(request: Request) -> Any:
        nonlocal other
        request.session.get("a")
        other = browser.has_id()[::-1]
        await storage.rotate(browser.has_id(), other)
        if "user" in request.query_params:
            await storage.write_bytes(other, b'{"a":1}', subject=request.query_params["user"])
            with pytest.raises(SessionNotFound):
                await change(request, visit)
            return None
        return [await change(request, visit), await change(request, visit), dict(request.session)]

    async with served(storage, step) as browser:
        await browser.begin(a=1)
        response = await browser.post("/step")
        assert response.json() == [1, 2, {"a": "1", "visits": 2}]
        assert browser.cookie(response) is None
        assert await storage.read_bytes(other) == b'{"a":"1","visits":2}'
        browser.id = None
        await browser.begin(a=1)
        response = await browser.post("/step", user="bob")
        assert browser.cookie(response) is None
        assert await storage.read_bytes(other) == b'{"a":1}'


async def test_a_moved_id_changes_nothing(storage: SpyStorage) -> None:
    async def step(request: Request) -> Any:
        with pytest.raises(SessionNotFound):
            await change(request, visit)

    async with served(storage, step) as browser:
        old = await browser.begin(a=1)
        await browser.post("/login", user="ann")
        late = browser.other(old)
        assert late.cookie(await late.post("/step")) is None
        assert await browser.data() == {"a": "1"}


async def test_tasks_of_one_request_lose_nothing(storage: SpyStorage) -> None:
    async def step(request: Request) -> Any:
        session = await load(request)

        async def slowly(data: Data) -> int:
            seen = data.get("visits", 0)
            await asyncio.sleep(0)
            session[f"between {seen}"] = 1  # of another task, while the change is under way
            data["visits"] = seen + 1
            return int(data["visits"])

        return await asyncio.gather(*(change(request, slowly) for _ in range(10)))

    async with served(storage, step) as browser:
        for begun in (0, 10):
            visits = (await browser.post("/step")).json()
            assert sorted(visits) == list(range(begun + 1, begun + 11))
        assert await browser.data() == {"visits": 20} | {f"between {number}": 1 for number in range(20)}


async def test_a_change_in_a_change_is_refused(storage: SpyStorage) -> None:
    async def step(request: Request) -> Any:
        async def nested(_data: Data) -> None:
            await change(request, visit)

        with pytest.raises(InvalidArgument):
            await change(request, nested)
        return await change(request, visit)

    async with served(storage, step) as browser:
        assert (await browser.post("/step")).json() == 1


async def test_subject_and_expiry_stay(storage: SpyStorage, clock: ManualClock) -> None:
    async def step(request: Request) -> Any:
        if "remember" in request.query_params:
            (await load(request)).set_expiry(50)
        return await change(request, visit)

    async with served(storage, step) as browser:
        await browser.begin(a=1)
        await browser.post("/login", user="ann")
        await browser.post("/step", remember=1)
        clock.advance(40)
        response = await browser.post("/step")
        cookie = browser.cookie(response)
        assert cookie is not None
        assert cookie.attributes["max-age"] == "50"
        found = await storage.info(browser.has_id())
        assert found is not None
        assert found.subject == "ann"
        clock.advance(51)
        assert await storage.info(browser.has_id()) is None


class Busy(SpyStorage):
    """A storage whose sessions another process writes right before each conditional write."""

    busy = False

    async def write_bytes(self, id: str, data: Any, **options: Any) -> SessionInfo:
        if self.busy and options["if_match"]:
            await self.delegate.write_bytes(id, await self.delegate.read_bytes(id))
        return await super().write_bytes(id, data, **options)


async def test_a_session_that_others_always_change_is_a_503(storage: SpyStorage) -> None:
    busy, calls = Busy(storage.delegate), 0

    async def step(request: Request) -> Any:
        def counted(data: Data) -> int:
            nonlocal calls
            calls += 1
            return visit(data)

        return await change(request, counted)

    async with served(busy, step) as browser:
        await browser.begin(a=1)
        busy.busy = True
        response = await browser.send("POST", "/step")
        assert response.status == 503
        assert response.all("Retry-After") == ["1"]
        assert calls == ATTEMPTS
        busy.busy = False
        assert await browser.data() == {"a": "1"}


async def test_an_unavailable_storage_is_a_503(storage: SpyStorage) -> None:
    async def step(request: Request) -> Any:
        request.session.get("a")
        storage.down = True
        return await change(request, visit)

    async with served(storage, step) as browser:
        await browser.begin(a=1)
        assert (await browser.send("POST", "/step")).status == 503
        storage.down = False
        assert await browser.data() == {"a": "1"}

    async def caught(request: Request) -> Any:
        storage.down = True
        with pytest.raises(StorageUnavailable):
            await change(request, visit)
        storage.down = False
        assert isinstance(request.session, Session)
        return dict(request.session)

    async with served(storage, caught) as browser:
        assert (await browser.post("/step")).json() == {}
        assert browser.id is None


async def test_a_session_that_it_empties_ends(storage: SpyStorage) -> None:
    async def step(request: Request) -> Any:
        if "moved" in request.query_params:
            request.session.get("a")
            await storage.rotate(browser.has_id(), browser.has_id()[::-1])
        await change(request, Data.clear)
        if "again" in request.query_params:
            await change(request, visit)
        return dict(request.session)

    async with served(storage, step) as browser:
        for query in ({}, {"moved": "1"}):
            await browser.begin(a=1)
            cookie = browser.cookie(await browser.post("/step", **query))
            assert cookie is not None
            assert cookie.clears
            assert [info async for info in storage.sessions()] == []
        old = await browser.begin(a=1)
        assert (await browser.post("/step", again="1")).json() == {"visits": 1}
        assert browser.has_id() != old
        assert len([info async for info in storage.sessions()]) == 1
