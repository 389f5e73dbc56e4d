"""A browser without JavaScript, for the example service."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from examples.fastapi_service.app import create_app
from sqlsessions import ManagedSessionStorage


class Browser(httpx.AsyncClient):
    """A client with cookies of its own that follows redirects."""

    def __init__(self, storage: ManagedSessionStorage, scheme: str = "http") -> None:
        self.app = create_app(storage)
        super().__init__(
            transport=httpx.ASGITransport(app=self.app),
            base_url=f"{scheme}://service.example",
            follow_redirects=True,
        )

    async def log_in(self, user: str = "ada") -> str:
        return (await self.post("/login", data={"user": user})).text

    async def submit(self, path: str, **fields: str) -> httpx.Response:
        return await self.post(path, data={"csrf": await self.csrf(), **fields})

    async def upload(self, name: str, content: bytes, type: str = "text/plain") -> httpx.Response:
        form = {"csrf": await self.csrf()}
        return await self.post("/file", data=form, files={"file": (name, content, type)})

    async def csrf(self) -> str:
        return found(r'name="csrf" value="(\w+)"', (await self.get("/")).text)[0]

    async def keys(self) -> list[str]:
        return found(r'name="key" value="(\w+)"', (await self.get("/")).text)

    async def counter(self) -> int:
        return int(found(r'id="counter">(\d+)<', (await self.get("/")).text)[0])

    @property
    def id(self) -> str:
        return self.cookies["session"]


def found(pattern: str, text: str) -> list[str]:
    return re.findall(pattern, text) or pytest.fail(f"no {pattern} in {text}")


async def count(items: AsyncIterator[Any]) -> int:
    return len([item async for item in items])
