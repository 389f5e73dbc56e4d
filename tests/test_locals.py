"""What a reporter of errors finds among the local variables of frames: nothing in those of drivers, and in ours only under
names that the documentation has it leave out."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from sqlsessions import (
    CacheStorage,
    CompressedStorage,
    EncryptedStorage,
    ManagedSessionStorage,
    SessionStorageMemory,
    SqlSessionStorage,
    new_session_id,
)
from sqlsessions.channels import ByteWriteChannel
from sqlsessions.integrations.starlette import SessionMiddleware, current_session

ROOT = Path(__file__).parent.parent
MARKER = "the-marker"
DATA = MARKER.encode()
ID = f"{MARKER}-{new_session_id()}"

LEFT_OUT = {
    name
    for names in re.findall(
        r"^    names \+?= (\[.*\])$", (ROOT / "docs/observability.md").read_text(), re.MULTILINE
    )
    for name in ast.literal_eval(names)
}
"""By the sample for Sentry."""


def storage(kind: str, path: Path) -> ManagedSessionStorage:
    match kind:
        case "memory":
            return SessionStorageMemory()
        case "no tables":
            return SqlSessionStorage(f"sqlite:///{path}")
        case "cache":
            return CacheStorage(storage("no tables", path))
        case "layers":
            return CompressedStorage(EncryptedStorage(storage("no tables", path), [os.urandom(32)]))
        case _:
            return SqlSessionStorage(f"{kind}://nobody@127.0.0.1:1/none", retry_for=0)


async def giving(channel: ByteWriteChannel) -> None:
    await channel.write(DATA)


async def failing(channel: ByteWriteChannel) -> None:
    await channel.write(DATA)
    raise ValueError("of the application")


CALLS: dict[str, Callable[[ManagedSessionStorage], Awaitable[Any]]] = {
    "write": lambda storage: storage.write(ID, giving, subject=MARKER),
    "write, failing": lambda storage: storage.write(ID, failing),
    "write_bytes": lambda storage: storage.write_bytes(ID, DATA, subject=MARKER, labels=[MARKER]),
    "write_bytes, on a condition": lambda storage: storage.write_bytes(ID, DATA, if_match=5),
    "write_bytes, large": lambda storage: storage.write_bytes(ID, DATA * 10_000),
    "read_bytes": lambda storage: storage.read_bytes(ID),
    "load": lambda storage: storage.load(ID),
    "info": lambda storage: storage.info(ID),
    "touch": lambda storage: storage.touch(ID),
    "rotate": lambda storage: storage.rotate(ID, f"{ID}-new"),
    "invalidate": lambda storage: storage.invalidate(ID),
    "revoke": lambda storage: storage.revoke(MARKER),
    "revoke_label": lambda storage: storage.revoke_label(MARKER),
}


def frames(error: BaseException | None) -> Iterator[FrameType]:
    """Those of an error and of what caused it."""
    seen = set[int]()
    errors = [error]
    while errors:
        each = errors.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            errors += [each.__cause__, each.__context__]
            traceback = each.__traceback__
            while traceback is not None:
                yield traceback.tb_frame
                traceback = traceback.tb_next


def shown(error: BaseException, marker: str = MARKER) -> dict[str, set[str]]:
    """The names under which a marker is found, by file."""
    found: dict[str, set[str]] = {}
    for frame in frames(error):
        if frame.f_code.co_filename != __file__:
            for name, value in frame.f_locals.items():
                if marker in repr(value):
                    found.setdefault(frame.f_code.co_filename, set()).add(name)
    return found


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["memory", "no tables", "cache", "layers", "postgresql", "mysql"])
async def test_ids_and_data_are_under_names_that_are_left_out(kind: str, call: str, tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    path.touch()
    async with storage(kind, path) as tried:
        try:
            await CALLS[call](tried)
        except Exception as error:
            for file, names in shown(error).items():
                assert file.startswith(str(ROOT / "sqlsessions"))
                assert names <= LEFT_OUT
        else:
            assert kind == "memory" or "failing" not in call


async def test_those_of_conflicts_are_too(sql_url: str) -> None:
    async with SqlSessionStorage(sql_url, max_size=1000) as tried:
        await tried.write_bytes(ID, DATA, subject=MARKER)
        for call in CALLS.values():
            try:
                await call(tried)
            except Exception as error:
                for file, names in shown(error).items():
                    assert file.startswith(str(ROOT / "sqlsessions"))
                    assert names <= LEFT_OUT


def test_they_are_in_a_request_too(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"
    path.touch()

    async def login(request: Request) -> Response:
        current_session(request).subject = MARKER
        request.session["name"] = MARKER
        return Response()

    app = Starlette(
        routes=[Route("/", login)],
        middleware=[Middleware(SessionMiddleware, storage=storage("no tables", path))],
    )
    with (
        TestClient(app, cookies={"session": ID}) as client,
        pytest.raises(Exception, match="tables") as raised,
    ):
        client.get("/")
    for file, names in shown(raised.value).items():
        if file.startswith(str(ROOT / "sqlsessions")):
            assert names <= LEFT_OUT
        else:  # ASGI's own, which has all headers
            assert names <= {"scope"}
