"""Servers that a benchmark starts for itself: on a free port, in a folder of their own, gone when it is done."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0")
VOLATILE = ("--appendonly", "no")
POSTGRESQL = {"listen_addresses": "127.0.0.1", "max_wal_size": "256MB", "min_wal_size": "32MB"}
START_WITHIN = 30.0  # seconds


class Unavailable(Exception):
    """A server does not answer, or a package is not installed; the message says which."""


def slowed(command: Sequence[str], fsync: float) -> list[str]:
    """A command whose every fsync takes some seconds more, as on a slower disk.

    No other system call is traced, and waits of several processes or threads do not add up.

    Raises:
        Unavailable: If strace is not installed.
    """
    if not fsync:
        return list(command)
    calls = "fsync,fdatasync"
    delay = f"inject={calls}:delay_enter={fsync * 1e6:.0f}"
    # -D: the process is the command's, not strace's, so that it can be ended as usual.
    tracer = [_program("strace"), "-D", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null"]
    return [*tracer, "-e", f"trace={calls}", "-e", delay, "-e", "signal=none", *command]


@asynccontextmanager
async def redis_server(
    *, durable: bool, fsync: float = 0.0, oldest: tuple[int, int] = (0, 0)
) -> AsyncIterator[str]:
    """The URL of a Redis that writes nothing to disk, or that answers once a write is on disk.

    Args:
        durable: Which of the two.
        fsync: Seconds that an fsync takes besides.
        oldest: The version that is needed.

    Raises:
        Unavailable: If it is not installed, or too old.
    """
    program = _program("redis-server")
    asked = await asyncio.create_subprocess_exec(program, "--version", stdout=asyncio.subprocess.PIPE)
    words = (await asked.communicate())[0].decode().partition(" v=")[2].split(".")
    if (int(words[0]), int(words[1])) < oldest:
        raise Unavailable(f"Redis {'.'.join(map(str, oldest))} or newer is not installed")
    command = [
        program,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        *(DURABLE if durable else VOLATILE),
    ]
    async with _folder() as folder:
        port = free_port()
        command += ["--port", str(port), "--dir", str(folder)]
        async with _running(slowed(command, fsync), partial(answers, port)):
            yield f"redis://127.0.0.1:{port}"


@asynccontextmanager
async def postgresql_server(*, fsync: float = 0.0, shared_buffers: int = 128) -> AsyncIterator[str]:
    """The URL of a PostgreSQL as it comes, whose commits wait for the disk.

    Args:
        fsync: Seconds that an fsync takes besides.
        shared_buffers: Its cache, in MiB.

    Raises:
        Unavailable: If it is not installed.
    """
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb, postgres = (_program(name, *installed[-1:]) for name in ("initdb", "postgres"))
    async with _folder() as folder:
        port, data, user = free_port(), folder / "data", _user(folder)
        create = (initdb, "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        made = await asyncio.create_subprocess_exec(*create, stdout=asyncio.subprocess.DEVNULL, **user)
        if await made.wait():
            raise Unavailable("initdb failed")
        settings = POSTGRESQL | {
            "port": str(port),
            "shared_buffers": f"{shared_buffers}MB",
            "unix_socket_directories": str(folder),
        }
        given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        async with _running(
            slowed([postgres, "-D", str(data), *given], fsync), partial(_serves, url), **user
        ):
            yield url


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@asynccontextmanager
async def _running(
    command: Sequence[str], ready: Callable[[], Awaitable[bool]], **options: Any
) -> AsyncIterator[None]:
    options |= {"stdout": asyncio.subprocess.DEVNULL, "stderr": asyncio.subprocess.DEVNULL}
    process = await asyncio.create_subprocess_exec(*command, **options)
    try:
        async with asyncio.timeout(START_WITHIN):
            while not await ready():
                if process.returncode is not None:
                    raise Unavailable(f"{Path(command[0]).name} ended at once")
                await asyncio.sleep(0.05)
        yield
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)  # PostgreSQL waits for no clients then, and Redis ends as well
        await process.wait()


async def answers(port: int) -> bool:
    """Whether something listens on a port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _serves(url: str) -> bool:
    import asyncpg

    try:
        connection = await asyncpg.connect(url)
    except (OSError, asyncpg.PostgresError):
        return False
    await connection.close()
    return True


@asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sqlsessions-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _user(folder: Path) -> dict[str, Any]:
    """Whom PostgreSQL runs as, which refuses to be root."""
    if os.geteuid():
        return {"cwd": folder}
    shutil.chown(folder, "nobody", "nogroup")
    return {"user": "nobody", "group": "nogroup", "extra_groups": [], "cwd": folder}


def _program(name: str, *folders: Path) -> str:
    places = os.pathsep.join([*map(str, folders), os.environ.get("PATH", os.defpath)])
    if (found := shutil.which(name, path=places)) is None:
        raise Unavailable(f"{name} is not installed")
    return found
