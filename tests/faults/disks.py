"""File systems that a test can fill or cut the power of, and system calls that fail."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from ..databases import REQUIRED

EXT4_SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
NO_LOG_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH: what is not on the disk yet is lost, the journal too


def unavailable(reason: str) -> None:
    """Skip the test; fail where this can be asked for."""
    (pytest.fail if REQUIRED and os.geteuid() == 0 else pytest.skip)(reason)


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{command[0]}: {done.stderr.strip()}")


@contextmanager
def full_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system in memory of some size."""
    folder.mkdir()
    try:
        run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder))
    except OSError as error:
        unavailable(f"no file system can be mounted: {error}")
    try:
        yield folder
    finally:
        run("umount", "-l", str(folder))


class Disk:
    """An ext4 file system in a file, whose power can be cut.

    Attributes:
        path: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self._image = folder / "disk.img"
        self.path = folder / "disk"

    def make(self) -> None:
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(64 * 1024 * 1024)
        run("mkfs.ext4", "-q", "-F", str(self._image))
        self.mount()

    def mount(self) -> None:
        run("mount", "-o", "loop", str(self._image), str(self.path))

    def unmount(self) -> None:
        run("umount", str(self.path))

    def cut_power(self) -> None:
        """From now on nothing reaches the disk."""
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, EXT4_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(handle)


@contextmanager
def disk(folder: Path) -> Iterator[Disk]:
    """Such a file system, mounted."""
    made = Disk(folder)
    try:
        made.make()
    except OSError as error:
        unavailable(f"no ext4 image can be mounted: {error}")
    try:
        yield made
    finally:
        run("umount", "-l", str(made.path))


@asynccontextmanager
async def failing(pid: int, calls: str, error: str) -> AsyncIterator[None]:
    """Let system calls of a process fail meanwhile.

    Args:
        pid: The process.
        calls: Their names, with commas in between.
        error: The name of the error.
    """
    if shutil.which("strace") is None:
        unavailable("strace is not installed")
    tracer = await asyncio.create_subprocess_exec(
        *("strace", "-f", "-p", str(pid), "-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"),
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 24,
    )
    assert tracer.stderr is not None
    first = await tracer.stderr.readline()
    if b"attached" not in first:
        await tracer.wait()
        unavailable(f"no process can be traced: {first.decode().strip()}")
    injected = asyncio.create_task(_count(tracer.stderr))
    try:
        yield
    finally:
        tracer.terminate()
        await tracer.wait()
    assert await injected > 0, "no call has failed"


async def _count(lines: asyncio.StreamReader) -> int:
    return len([line async for line in lines if b"(INJECTED)" in line])
