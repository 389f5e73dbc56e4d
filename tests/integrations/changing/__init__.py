"""A service of each framework that counts visits and fills a cart, under many requests at once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from importlib import import_module

from sqlsessions.testing import Send

Service = Callable[..., AbstractAsyncContextManager[Send]]

FRAMEWORKS = ["starlette", "fastapi", "litestar", "aiohttp", "quart", "flask", "django", "async_django"]


def service_of(framework: str) -> Service:
    """The service, whose module is imported now: a process that visits one service needs no other."""
    service: Service = import_module(f"{__name__}.by_{framework}").service
    return service
