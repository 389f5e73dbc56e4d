"""The app of `web_apps` as a Django project, with Django's own sessions in its database or with ours."""

from __future__ import annotations

import threading
import time
from typing import Any

import django
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.urls import path

from .peers.django_db import on_sqlite


def create_app(url: str, *, ours: bool) -> Any:
    """The project.

    Args:
        url: Of an SQLite database.
        ours: Whether its sessions are ours.
    """
    sessions = "sqlsessions.integrations.django" if ours else "django.contrib.sessions.backends.db"
    middleware = "sqlsessions.integrations.django" if ours else "django.contrib.sessions.middleware"
    settings.configure(
        SECRET_KEY="benchmark",
        ALLOWED_HOSTS=["*"],
        USE_TZ=True,
        ROOT_URLCONF=__name__,
        INSTALLED_APPS=["django.contrib.sessions"],
        MIDDLEWARE=[f"{middleware}.SessionMiddleware"],
        DATABASES={"default": on_sqlite(url)},
        SESSION_ENGINE=sessions,
        SQLSESSIONS={"url": url},
    )
    django.setup()
    if not ours:
        migrated = threading.Thread(target=call_command, args=("migrate",), kwargs={"verbosity": 0})
        migrated.start()  # Django makes no database call in the thread of an event loop, in which uvicorn is now
        migrated.join()
    return ASGIHandler()


async def _read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(await request.session.aget("user"))


async def _write(request: HttpRequest) -> HttpResponse:
    await request.session.aset("visits", await request.session.aget("visits", 0) + 1)
    return HttpResponse(await request.session.aget("user"))


async def _login(request: HttpRequest) -> HttpResponse:
    await request.session.aupdate({"user": "ann", "items": ["x" * 20 for _ in range(10)]})
    return HttpResponse("in")


async def _cpu(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(time.process_time()))


urlpatterns = [path("", _read), path("write", _write), path("login", _login), path("cpu", _cpu)]
