"""Django's session engine: the contract of integrations, under WSGI and under ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from django.contrib.auth import alogin, alogout, login, logout
from django.contrib.auth.models import User
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.test import override_settings
from django.urls import path

from sqlsessions import ManagedSessionStorage
from sqlsessions.testing import Browser, Gate, Send, SpyStorage, asgi, wsgi
from sqlsessions.testing import HttpRequest as Sent

from ..contract import OF_BEARERS, OF_FRESHNESS, OF_KEYS, InBackground, show
from ..support import SplitCookies
from . import urls  # noqa: F401 (which tells Django that there is no table of users)

View = Callable[..., Any]

NAMES = {
    "ttl": "SESSION_COOKIE_AGE",
    "expire_at_browser_close": "SESSION_EXPIRE_AT_BROWSER_CLOSE",
    "cookie_name": "SESSION_COOKIE_NAME",
    "path": "SESSION_COOKIE_PATH",
    "domain": "SESSION_COOKIE_DOMAIN",
    "secure": "SESSION_COOKIE_SECURE",
    "same_site": "SESSION_COOKIE_SAMESITE",
}
RAISED = "Django answers 500; docs/django.md has a middleware that answers 503"
KEPT = "Django keeps a session that is empty, under a new key"
NO_SETTING = "Django has no such setting"


def untouched(_request: HttpRequest) -> HttpResponse:
    return JsonResponse(None, safe=False)


def blocking(gate: Gate) -> View:
    """What the routes of the standard application do, in threads."""

    def respond(request: HttpRequest, name: str) -> HttpResponse:
        query, session, result = request.GET.dict(), request.session, None
        if "Hold" in request.headers:
            session.get("a")
            gate.block()
        match name:
            case "show":
                result = show(session, query)
            case "put" | "leave" | "refuse":
                session.update(query)
            case "drop":
                for key in query:
                    session.pop(key)
            case "nest":
                session.setdefault("list", []).append(1)
            case "login":
                login(request, User(pk=int(query.pop("user"))))
                session.update(query)
            case "logout":
                logout(request)
            case "regenerate":
                session.cycle_key()
            case "replace":
                session.flush()
                session.update(query)
            case "remember":
                session.set_expiry(int(query["seconds"]))
            case "sessions":
                result = [info.key for info in session.list_sessions()]
            case "end":
                result = session.end_session(query["key"])
            case "end_others":
                result = session.end_other_sessions()
        return ended(name, result)

    return respond


def awaiting(gate: Gate) -> View:
    """What the routes of the standard application do, in coroutines."""

    async def respond(request: HttpRequest, name: str) -> HttpResponse:
        query, session, result = request.GET.dict(), request.session, None
        if "Hold" in request.headers:
            await session.aget("a")
            await gate.wait()
        match name:
            case "show":
                result = show(dict(await session.aitems()), query)
            case "put" | "leave" | "refuse":
                await session.aupdate(query)
            case "drop":
                for key in query:
                    await session.apop(key)
            case "nest":
                (await session.asetdefault("list", [])).append(1)
            case "login":
                await alogin(request, User(pk=int(query.pop("user"))))
                await session.aupdate(query)
            case "logout":
                await alogout(request)
            case "regenerate":
                await session.acycle_key()
            case "replace":
                await session.aflush()
                await session.aupdate(query)
            case "remember":
                await session.aset_expiry(int(query["seconds"]))
            case "sessions":
                result = [info.key for info in await session.alist_sessions()]
            case "end":
                result = await session.aend_session(query["key"])
            case "end_others":
                result = await session.aend_other_sessions()
        return ended(name, result)

    return respond


def ended(name: str, result: Any) -> HttpResponse:
    if name == "leave":
        return HttpResponseRedirect("/show")
    if name == "refuse":
        raise Http404
    return JsonResponse(result, safe=False)


class TestDjangoByWSGI(InBackground):
    cookie_name = "sessionid"
    lacks = dict.fromkeys(OF_BEARERS + OF_FRESHNESS + OF_KEYS, NO_SETTING) | {
        "a_503_says_why_and_when_to_try_again": RAISED,
        "a_look_extends_a_session_with_an_expiry_of_its_own": "Django counts from the last change",
        "an_unavailable_storage_is_a_503": RAISED,
        "a_new_session_in_an_unavailable_storage_is_a_503": RAISED,
        "a_write_that_fails_is_a_503": RAISED,
        "an_equal_value_costs_one_read": "Django saves what is assigned, if not to the storage",
        "an_answer_without_a_look_or_a_session_has_no_header_of_sessions": "Django clears what can be no key",
        "shared_caches_keep_no_answer": "Django leaves Cache-Control to the view",
        "a_look_extends_a_session_and_its_cookie": "Django counts from the last change",
        "the_cookie_is_secure_over_https": "Django's SESSION_COOKIE_SECURE says whether it is",
        "an_emptied_session_leaves_nothing": KEPT,
        "an_emptied_session_of_a_user_ends": "Django keeps who the user is as data",
        "a_login_alone_begins_a_session_and_keeps_one": "Django keeps who the user is as data",
        "a_key_added_meanwhile_and_dropped_ends_it_too": KEPT,
        "a_change_after_its_emptying_does_not_bring_it_back": KEPT,
        "a_login_may_keep_the_id": NO_SETTING,
        "an_absolute_timeout_ends_a_session_in_use": NO_SETTING,
        "the_cookie_may_be_partitioned": NO_SETTING,
        "the_cookie_of_a_long_session_is_renewed": "Django counts from the last change",
    }

    @asynccontextmanager
    async def client(
        self, storage: ManagedSessionStorage, gate: Gate, **settings: Any
    ) -> AsyncIterator[Send]:
        kept: dict[str, Any] = {"storage": lambda: storage}
        if "anonymous_ttl" in settings:
            kept["anonymous_ttl"] = settings.pop("anonymous_ttl")
        options = {NAMES[name]: value for name, value in settings.items() if value is not None}
        routes = (path("untouched", untouched), path("<name>", self.view(gate)))
        with override_settings(SQLSESSIONS=kept, ROOT_URLCONF=routes, **options):
            yield self.application()

    def view(self, gate: Gate) -> View:
        return blocking(gate)

    def application(self) -> Send:
        return wsgi(WSGIHandler())


class TestDjangoByASGI(TestDjangoByWSGI):
    def view(self, gate: Gate) -> View:
        return awaiting(gate)

    def application(self) -> Send:
        return asgi(ASGIHandler())

    async def test_a_cookie_may_be_in_any_of_several_headers(self, storage: SpyStorage, gate: Gate) -> None:
        """As HTTP/2 sends them, of which Django makes one that it cannot read."""
        async with self.client(storage, gate) as send:
            browser = Browser(send, self.cookie_name)
            await browser.begin(a=1)
            headers = SplitCookies(Host="service.test", Cookie=f"{self.cookie_name}={browser.id}")
            response = await send(Sent("GET", "/show", headers=headers))
            assert response.json() == {"a": "1"}
            assert response.all("Set-Cookie") == []
