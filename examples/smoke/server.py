"""The server under test, in a process of its own."""

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from . import expect


class Server:
    """The service in a process of its own, on one database and one port.

    Args:
        directory: Where the database and the log are kept.
    """

    def __init__(self, directory: Path) -> None:
        self.log = directory / "server.log"
        database = (directory / "sessions.db").as_posix()
        self._environment = {**os.environ, "SQLSESSIONS_URL": f"sqlite+aiosqlite:///{database}"}
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def upgrade(self) -> None:
        """Create the tables by the installed command."""
        command = shutil.which("sqlsessions", path=sysconfig.get_path("scripts"))
        expect(command, "the command sqlsessions is not installed")
        subprocess.run([str(command), "upgrade"], env=self._environment, check=True, timeout=60)  # noqa: S603

    def start(self) -> None:
        """Start serving; return when requests are answered."""
        command = [sys.executable, "-m", "examples.fastapi_service", "--port", str(self._port)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603
                command, env=self._environment, stdout=log, stderr=log, cwd=Path(__file__).parents[2]
            )
        deadline = time.monotonic() + 30
        while not self._answers():
            expect(self._process.poll() is None, "the server ended at once")
            expect(time.monotonic() < deadline, "the server did not answer within 30 s")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop serving, by force after 10 s."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def peak_memory(self) -> int | None:
        """The most bytes that the process ever had in memory; None where the system does not say."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status")
        peak = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
        return int(peak[1]) * 1024 if peak else None

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/login", trust_env=False).is_success
        except httpx.TransportError:
            return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def new_server() -> Iterator[Server]:
    """A server on a new database; both are gone afterwards, and on failure the log is shown."""
    with tempfile.TemporaryDirectory(prefix="sqlsessions-smoke-") as directory:
        server = Server(Path(directory))
        try:
            yield server
        except BaseException:
            if server.log.exists():
                print(server.log.read_text()[-4000:], file=sys.stderr)  # noqa: T201
            raise
        finally:
            server.stop()
