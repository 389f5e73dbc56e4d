"""The blocking twins of the async methods of Django's session."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from django.utils.asyncio import async_unsafe

from ._web.portal import run


def blocking(method: Callable[..., Coroutine[Any, Any, Any]]) -> Any:
    """The blocking twin of an async method, for code that cannot await."""

    @wraps(method)
    def waiting(self: Any, *arguments: Any, **options: Any) -> Any:
        return run(getattr(self, method.__name__)(*arguments, **options))

    waiting.__name__ = method.__name__.removeprefix("a")
    return unsafe(waiting)


def unsafe(method: Callable[..., Any]) -> Any:
    """A blocking method that refuses to run in a thread that has an event loop."""
    return async_unsafe(
        f"session.{method.__name__} would block the event loop: await session.a{method.__name__}, and to "
        "access the session await session.aget and its like - or use a thread or sync_to_async."
    )(method)
