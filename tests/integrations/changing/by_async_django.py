"""The service for Django, under ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, JsonResponse
from django.test import override_settings
from django.urls import path

from sqlsessions import ManagedSessionStorage
from sqlsessions.testing import Send, asgi

from .. import django_project  # noqa: F401 (which configures Django)
from .routes import respond


@asynccontextmanager
async def service(storage: ManagedSessionStorage) -> AsyncIterator[Send]:
    async def endpoint(request: HttpRequest, name: str) -> JsonResponse:
        item, session = request.GET.get("item", ""), request.session
        if name == "begin":
            await session.aset("begun", True)
            return JsonResponse(None, safe=False)
        data = dict(await session.aitems())
        return JsonResponse(await respond(name, item, data, session.achange), safe=False)

    with override_settings(
        SQLSESSIONS={"storage": lambda: storage},
        ROOT_URLCONF=(path("<name>", endpoint),),
        SESSION_COOKIE_NAME="session",
    ):
        yield asgi(ASGIHandler())
