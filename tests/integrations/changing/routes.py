"""The routes of the service.

``POST /begin`` begins a session, ``/visit`` counts, ``/add?item=`` puts an item into the cart, both by `change`;
``/plain`` counts by reading and assigning, as no service should. ``GET /show`` shows the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

Data = dict[str, Any]


def visit(data: Data) -> int:
    data["visits"] = data.get("visits", 0) + 1
    return int(data["visits"])


def adding(item: str) -> Callable[[Data], int]:
    def add(data: Data) -> int:
        data.setdefault("cart", []).append(item)
        return len(data["cart"])

    return add


def adding_slowly(item: str) -> Callable[[Data], Any]:
    async def add(data: Data) -> int:
        cart = list(data.get("cart", []))
        await asyncio.sleep(0)
        data["cart"] = [*cart, item]
        return len(cart) + 1

    return add


def shown(data: Any) -> Data:
    return {key: value for key, value in dict(data).items() if not key.startswith("_")}


def begin(data: Any) -> None:
    data["begun"] = True


async def respond(name: str, item: str, session: Any, change: Callable[[Any], Any]) -> Any:
    """What a route does, in a framework that awaits."""
    match name:
        case "visit":
            return await change(visit)
        case "add":
            return await change(adding_slowly(item))
        case "plain":
            return visit(session)
        case "begin":
            return begin(session)
        case _:
            return shown(session)


def answer(name: str, item: str, session: Any, change: Callable[[Any], Any]) -> Any:
    """What a route does, in a framework that blocks."""
    match name:
        case "visit":
            return change(visit)
        case "add":
            return change(adding(item))
        case "plain":
            return visit(session)
        case "begin":
            return begin(session)
        case _:
            return shown(session)
