"""The service for Django, under WSGI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.test import override_settings
from django.urls import path

from sqlsessions import ManagedSessionStorage
from sqlsessions.testing import Send, wsgi

from .. import django_project  # noqa: F401 (which configures Django)
from .routes import answer


@asynccontextmanager
async def service(storage: ManagedSessionStorage) -> AsyncIterator[Send]:
    def endpoint(request: HttpRequest, name: str) -> JsonResponse:
        item, session = request.GET.get("item", ""), request.session
        return JsonResponse(answer(name, item, session, session.change), safe=False)

    with override_settings(
        SQLSESSIONS={"storage": lambda: storage},
        ROOT_URLCONF=(path("<name>", endpoint),),
        SESSION_COOKIE_NAME="session",
    ):
        yield wsgi(WSGIHandler())
