"""Views, each twice: for code that blocks, and for code that awaits."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib.auth import alogout, login, logout
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import User, update_last_login
from django.contrib.auth.signals import user_logged_in
from django.http import HttpRequest, JsonResponse
from django.urls import path


def without_a_table_of_users() -> None:
    """Do not write down a user's last login: there is no such database."""
    user_logged_in.disconnect(update_last_login, dispatch_uid="update_last_login")


without_a_table_of_users()

WAIT = 20  # seconds


class Users(BaseBackend):  # type: ignore[misc]
    def get_user(self, user_id: int) -> User:
        return User(pk=user_id, username=f"user {user_id}")


class Meeting:
    """Where requests wait for each other, or for the test."""

    def __init__(self) -> None:
        self.tasks: asyncio.Barrier | None = None
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.abegun = asyncio.Event()
        self.amay_end = asyncio.Event()


meeting = Meeting()


def untouched(request: HttpRequest) -> JsonResponse:
    return JsonResponse({})


def read(request: HttpRequest) -> JsonResponse:
    return JsonResponse({key: value for key, value in request.session.items() if not key.startswith("_")})


async def aread(request: HttpRequest) -> JsonResponse:
    found = await request.session.aitems()
    return JsonResponse({key: value for key, value in found if not key.startswith("_")})


def put(request: HttpRequest, key: str) -> JsonResponse:
    request.session[key] = 1
    return JsonResponse({})


def put_many(request: HttpRequest, keys: int, value: int) -> JsonResponse:
    request.session.update({f"key {number}": value for number in range(keys)})
    return JsonResponse({})


def flush(request: HttpRequest) -> JsonResponse:
    request.session.flush()
    return JsonResponse({})


async def aput(request: HttpRequest, key: str) -> JsonResponse:
    await request.session.aset(key, 1)
    return JsonResponse({})


async def ameet(request: HttpRequest, key: str) -> JsonResponse:
    await request.session.aget("first")
    assert meeting.tasks is not None
    await asyncio.wait_for(meeting.tasks.wait(), WAIT)
    await request.session.aset(key, 1)
    await request.session.asave()
    return JsonResponse({})


def slow(request: HttpRequest) -> JsonResponse:
    request.session.get("first")
    meeting.begun.set()
    assert meeting.may_end.wait(WAIT)
    return put(request, "late")


async def aslow(request: HttpRequest) -> JsonResponse:
    await request.session.aget("first")
    meeting.abegun.set()
    await asyncio.wait_for(meeting.amay_end.wait(), WAIT)
    return await aput(request, "late")


def nested(request: HttpRequest) -> JsonResponse:
    request.session.setdefault("cart", {"apples": 0})
    request.session["cart"]["apples"] += 1
    return JsonResponse(request.session["cart"])


def crossing(request: HttpRequest) -> JsonResponse:
    """From code that blocks to code that awaits, on an event loop of its own."""

    async def ahead() -> Any:
        await request.session.aset("crossed", await request.session.aget("crossed", 0) + 1)
        await request.session.asave()
        return await request.session.aget("crossed")

    return JsonResponse({"crossed": async_to_sync(ahead)()})


def log_in(request: HttpRequest, user: int) -> JsonResponse:
    login(request, User(pk=user))
    return JsonResponse({})


def log_out(request: HttpRequest) -> JsonResponse:
    logout(request)
    return JsonResponse({})


async def alog_out(request: HttpRequest) -> JsonResponse:
    await alogout(request)
    return JsonResponse({})


def mine(request: HttpRequest) -> JsonResponse:
    keys = [info.key for info in request.session.list_sessions()]
    return JsonResponse({"user": request.user.pk, "keys": keys})


def expire(request: HttpRequest, seconds: int) -> JsonResponse:
    request.session.set_expiry(seconds)
    return JsonResponse({})


def cycle(request: HttpRequest) -> JsonResponse:
    request.session.get("first")
    meeting.begun.set()
    assert meeting.may_end.wait(WAIT)
    request.session.cycle_key()
    return JsonResponse({})


urlpatterns = [
    path("untouched", untouched),
    path("read", read),
    path("aread", aread),
    path("put/<key>", put),
    path("put_many/<int:keys>/<int:value>", put_many),
    path("flush", flush),
    path("aput/<key>", aput),
    path("ameet/<key>", ameet),
    path("slow", slow),
    path("aslow", aslow),
    path("nested", nested),
    path("crossing", crossing),
    path("login/<int:user>", log_in),
    path("logout", log_out),
    path("alogout", alog_out),
    path("mine", mine),
    path("expire/<int:seconds>", expire),
    path("cycle", cycle),
]
