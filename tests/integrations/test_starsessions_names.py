"""Subjects, labels and clients of the sessions of starsessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import starsessions
from httpx import ASGITransport, AsyncClient
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starsessions import SessionAutoloadMiddleware, SessionNotLoaded
from starsessions.session import get_session_id, regenerate_session_id

from sqlsessions import InvalidArgument, InvalidArgumentType, SessionInfo
from sqlsessions.integrations.starsessions import (
    ClientRequest,
    SessionMiddleware,
    StarsessionsStore,
    address_and_user_agent,
    end_other_sessions,
    end_session,
    get_session_info,
    list_sessions,
    set_labels,
    set_subject,
)
from sqlsessions.testing import SpyStorage


async def visit(request: Request) -> Response:
    request.session["visits"] = request.session.get("visits", 0) + 1
    return JSONResponse(request.session["visits"])


async def login(request: Request) -> Response:
    query = request.query_params
    if "remove" in query:
        await request.scope["session_handler"].store.remove(get_session_id(request))
    if "remove" in query or "regenerate" in query:
        regenerate_session_id(request)
    request.session["user"] = query.get("user")
    if "user" in query:
        set_subject(request, query["user"] or None)
    if "label" in query:
        set_labels(request, query.getlist("label"))
    return JSONResponse(None)


async def devices(request: Request) -> Response:
    here = get_session_info(request)
    return JSONResponse(
        [
            {
                "here": here is not None and here.key == info.key,
                "key": info.key,
                "used": info.used_at is not None,
            }
            for info in [info async for info in list_sessions(request)]
        ]
    )


async def end(request: Request) -> Response:
    return JSONResponse(await end_session(request, request.query_params["key"]))


async def end_others(request: Request) -> Response:
    return JSONResponse(await end_other_sessions(request))


def app_of(
    storage: Any, *, autoload: bool = True, middleware: Any = SessionMiddleware, **options: Any
) -> Starlette:
    routes = [Route(f"/{each.__name__}", each) for each in (visit, login, devices, end, end_others)]
    used = [Middleware(middleware, store=StarsessionsStore(storage), **options)]
    return Starlette(routes=routes, middleware=[*used, *[Middleware(SessionAutoloadMiddleware)] * autoload])


@asynccontextmanager
async def browsing(app: Starlette, agent: str = "Tests/1") -> AsyncIterator[AsyncClient]:
    transport = ASGITransport(app, client=("192.0.2.7", 1))
    async with AsyncClient(
        transport=transport, base_url="https://service.test", headers={"User-Agent": agent}
    ) as client:
        yield client


async def all_of(storage: SpyStorage) -> list[SessionInfo]:
    return [info async for info in storage.delegate.sessions()]


async def named(storage: SpyStorage) -> list[tuple[str | None, tuple[str, ...]]]:
    return sorted(((info.subject, info.labels) for info in await all_of(storage)), key=str)


async def test_a_session_has_a_subject_and_labels_until_others_are_set(storage: SpyStorage) -> None:
    async with browsing(app_of(storage)) as client:
        await client.get("/login?user=ann&label=b&label=a")
        assert await named(storage) == [("ann", ("a", "b"))]
        await client.get("/visit")
        assert await named(storage) == [("ann", ("a", "b"))]
        await client.get("/login?label=c")
        assert await named(storage) == [("ann", ("c",))]
        await client.get("/login?user=ann")
        assert await named(storage) == [("ann", ("c",))]
        await client.get("/login?user=bob")  # to whom the labels do not belong
        assert await named(storage) == [("bob", ())]
        await client.get("/login?user=ann&label=d")
        assert await named(storage) == [("ann", ("d",))]
        await client.get("/login?user=")
        assert await named(storage) == [(None, ("d",))]


async def test_they_move_with_a_new_id_but_not_from_a_session_that_was_removed(storage: SpyStorage) -> None:
    async with browsing(app_of(storage)) as client:
        await client.get("/login?user=ann&label=a")
        await client.get("/login?regenerate=1")  # which leaves the old one alive
        assert await named(storage) == [("ann", ("a",))] * 2
        await client.get("/login?remove=1")
        assert await named(storage) == [("ann", ("a",)), (None, ())]
        await client.get("/login?remove=1&user=bob&label=b")
        assert await named(storage) == [("ann", ("a",)), ("bob", ("b",))]


@pytest.mark.parametrize("own", [None, "b"])
async def test_they_outlast_writes_at_the_same_time(storage: SpyStorage, own: str | None) -> None:
    async def meet(request: Request) -> Response:
        id = str(get_session_id(request))
        found = await storage.delegate.load(id)
        assert found is not None
        await storage.delegate.write_bytes(id, found.data, subject="ann", labels=["a"])
        if own is not None:
            set_labels(request, [own])
        return JSONResponse(None)

    app = app_of(storage)
    app.routes.append(Route("/meet", meet))
    async with browsing(app) as client:
        await client.get("/visit")
        await client.get("/meet")
    assert await named(storage) == [("ann", (own or "a",))]


async def test_a_user_lists_and_ends_the_sessions_that_are_theirs(storage: SpyStorage) -> None:
    app = app_of(storage)
    async with browsing(app) as laptop, browsing(app) as phone, browsing(app) as bob:
        assert (await laptop.get("/devices")).json() == []
        assert (await laptop.get("/end_others")).json() == 0
        for client, user in ((laptop, "ann"), (phone, "ann"), (bob, "bob")):
            await client.get(f"/login?user={user}")
        listed = (await laptop.get("/devices")).json()
        assert sorted(each["here"] for each in listed) == [False, True]
        assert all(each["used"] for each in listed)
        [other] = [each["key"] for each in listed if not each["here"]]
        assert (await bob.get(f"/end?key={other}")).json() is False
        assert (await laptop.get(f"/end?key={other}")).json() is True
        assert (await phone.get("/devices")).json() == []
        await phone.get("/login?user=ann")
        assert (await laptop.get("/end_others")).json() == 1
        assert len((await laptop.get("/devices")).json()) == 1
        assert await named(storage) == [("ann", ()), ("bob", ())]


async def test_address_and_user_agent_are_kept_by_each_write(storage: SpyStorage) -> None:
    app = app_of(storage, client_info=address_and_user_agent)
    async with browsing(app) as client:
        await client.get("/visit")
        assert [info.client for info in await all_of(storage)] == [
            {"address": "192.0.2.7", "user_agent": "Tests/1"}
        ]
        await client.get("/visit", headers={"User-Agent": "Other/2"})
        assert [info.client for info in await all_of(storage)] == [
            {"address": "192.0.2.7", "user_agent": "Other/2"}
        ]
    async with browsing(app_of(storage)) as client:
        await client.get("/visit")
    assert [info.client for info in await all_of(storage)].count(None) == 1


async def test_a_function_of_ones_own(storage: SpyStorage) -> None:
    def device(request: ClientRequest) -> Mapping[str, str] | None:
        agent = request.header("user-agent")
        return None if agent == "nothing" else {"device": f"{agent} at {request.address}"}

    async with browsing(app_of(storage, client_info=device)) as client:
        await client.get("/visit")
        assert [info.client for info in await all_of(storage)] == [{"device": "Tests/1 at 192.0.2.7"}]
        await client.get("/visit", headers={"User-Agent": "nothing"})
        assert [info.client for info in await all_of(storage)] == [None]


async def test_nothing_changes_for_those_who_set_nothing(storage: SpyStorage) -> None:
    async with browsing(app_of(storage)) as client:
        await client.get("/visit")
        storage.calls.clear()
        await client.get("/visit")
        assert storage.calls == ["read", "write"]


@pytest.mark.parametrize(
    "path", ["/login?user=ann", "/login?label=a", "/devices", "/end?key=x", "/end_others"]
)
async def test_where_the_session_is_not_loaded_or_not_ours(storage: SpyStorage, path: str) -> None:
    async def call(request: Request) -> Response:
        if "label" in path:
            set_labels(request, ["a"])
        elif "user" in path:
            set_subject(request, "ann")
        elif "devices" in path:
            get_session_info(request)
        elif "others" in path:
            await end_other_sessions(request)
        else:
            await end_session(request, "x")
        return JSONResponse(None)

    for options, error in (
        ({"autoload": False}, SessionNotLoaded),
        ({"middleware": starsessions.SessionMiddleware}, InvalidArgument),
    ):
        app = app_of(storage, **options)
        app.routes.append(Route("/call", call))
        async with browsing(app) as client:
            with pytest.raises(error):
                await client.get("/call")


@pytest.mark.parametrize(
    ("query", "error"),
    [("user=%1Fx", InvalidArgument), (f"user={'x' * 256}", InvalidArgument), ("label=", InvalidArgument)],
)
async def test_names_that_are_refused(storage: SpyStorage, query: str, error: type[Exception]) -> None:
    async with browsing(app_of(storage)) as client:
        with pytest.raises(error):
            await client.get(f"/login?{query}")


async def test_a_store_of_others(storage: SpyStorage) -> None:
    routes = [Route("/devices", devices)]
    used = [
        Middleware(SessionMiddleware, store=starsessions.InMemoryStore()),
        Middleware(SessionAutoloadMiddleware),
    ]
    async with browsing(Starlette(routes=routes, middleware=used)) as client:
        with pytest.raises(InvalidArgument, match="StarsessionsStore"):
            await client.get("/devices")
    assert await all_of(storage) == []


def test_what_is_no_function(storage: SpyStorage) -> None:
    with pytest.raises(InvalidArgumentType, match="client_info"):
        SessionMiddleware(None, store=StarsessionsStore(storage), client_info="address")  # type: ignore[arg-type]
