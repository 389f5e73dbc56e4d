"""The memory that a write or a read takes does not grow with the blob."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sqlsessions.testing._base import PATIENCE

from .support import each_database

STREAM = """
import asyncio, hashlib, random, re, sys
from pathlib import Path
from sqlsessions import SqlSessionStorage

MIB = 1024 * 1024

def peak():
    # Not getrusage, whose maximum is inherited from the process that started this one.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

async def main(url, size):
    async with SqlSessionStorage(url) as storage:
        async def write(mebibytes):
            source, digest = random.Random(mebibytes), hashlib.sha256()
            async def provider(channel):
                for _ in range(mebibytes * 16):
                    piece = source.randbytes(MIB // 16)
                    digest.update(piece)
                    await channel.write(piece)
            await storage.write("id", provider)
            return digest.hexdigest()

        async def read():
            digest = hashlib.sha256()
            async def consumer(channel):
                while piece := await channel.read(100_000):
                    digest.update(piece)
            await storage.read("id", consumer)
            return digest.hexdigest()

        assert await write(4) == await read()
        before = peak()
        assert await write(size) == await read()
        print(peak() - before)

asyncio.run(main(sys.argv[1], 64))
"""


@each_database
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_64_mib_pass_through_less_than_24(sql_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STREAM, sql_url],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=2 * PATIENCE,
    )
    assert int(done.stdout) < 24 * 1024
