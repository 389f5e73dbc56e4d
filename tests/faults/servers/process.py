"""What the servers for tests share: a folder, a port, and a process that can be killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Self

import psutil
import pytest

from ...databases import REQUIRED

START_WITHIN = 60.0  # seconds
STOP_WITHIN = 20.0


def program(name: str, package: str, *folders: str) -> str:
    """The path of a program; where it is missing, the test is skipped, or fails if servers are required.

    Args:
        name: Of the program.
        package: Debian's package that has it.
        folders: Where to look before PATH, as patterns below the root; of several, the last one counts.
    """
    for pattern in folders:
        if found := sorted(Path("/").glob(f"{pattern}/{name}")):
            return str(found[-1])
    return shutil.which(name) or missing(f"no {name}, which Debian's package {package} has")


def missing(reason: str) -> str:
    """Skip the test, or fail where servers are required."""
    (pytest.fail if REQUIRED else pytest.skip)(reason)


def free_port() -> int:
    """A port that nobody listens on.

    Not one that the system gives to outgoing connections: while a server is down, a client would take its
    port, or even connect to itself.
    """
    while True:
        port = random.randrange(10_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder that other users may enter, removed in the end."""
    path = Path(tempfile.mkdtemp(prefix="sqlsessions-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def give(path: Path, user: str | None) -> None:
    """Make a folder that belongs to a user."""
    path.mkdir(exist_ok=True)
    if user:
        shutil.chown(path, user)


def until(true: Callable[[], bool], what: str, within: float = START_WITHIN) -> None:
    """Wait for something.

    Raises:
        TimeoutError: If it did not come about.
    """
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within:g} seconds")
        time.sleep(0.05)


def alive(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that nobody has waited for has."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def family(pid: int) -> list[psutil.Process]:
    """A process and its descendants; none if it is gone."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


class Process(ABC):
    """A server in a folder of its own.

    Attributes:
        port: Where it listens, on 127.0.0.1; stays the same when it is started again.
        user: Whom it runs as if the tests run as root; None is root.
    """

    runs_as: ClassVar[str | None] = None
    ends_on: ClassVar[signal.Signals] = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.user = self.runs_as if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> Sequence[str]:
        """What is run."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves clients."""

    def prepare(self) -> None:
        """Make what it needs in its folder."""

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start it, for the first time or on what it left, and wait until it answers."""
        assert not self.running
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, start_new_session=True, **self._as_user()
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until it answers."""

        def answers() -> bool:
            if not self.running:
                raise RuntimeError(f"{type(self).__name__} ended: {self.log()}")
            return self.answers()

        try:
            until(answers, f"{type(self).__name__} answers")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.log()}") from None

    def kill(self) -> None:
        """SIGKILL to it and all that it started, at once; returns when none of them is left."""
        dying = self.processes()
        self.send(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()
        until(lambda: not any(map(alive, dying)), "killed processes have ended")

    def send(self, what: signal.Signals) -> None:
        """Send a signal to it and all that it started; SIGSTOP makes it hang until SIGCONT."""
        if what is signal.SIGKILL:
            self.send(signal.SIGSTOP)  # they start no others meanwhile
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(what)

    def processes(self) -> list[psutil.Process]:
        """It and all that it started; no process group, since PostgreSQL's processes have one each."""
        return family(self.pid) if self.running else []

    def stop(self) -> None:
        """Shut it down in order, and wait for that."""
        if self._process is None or not self.running:
            return
        self.send(signal.SIGCONT)
        with suppress(ProcessLookupError):
            self._process.send_signal(self.ends_on)
        try:
            self._process.wait(STOP_WITHIN)
        except subprocess.TimeoutExpired:
            self.kill()

    def log(self) -> str:
        """The end of what it said."""
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def run(self, *command: str) -> None:
        """Run a command as the server's user, to its end."""
        done = subprocess.run(command, capture_output=True, text=True, check=False, **self._as_user())
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stdout}{done.stderr}")

    def _as_user(self) -> dict[str, Any]:
        who: dict[str, Any] = (
            {"user": self.user, "group": _group(self.user), "extra_groups": []} if self.user else {}
        )
        temporary = (
            self.folder / "tmp"
        )  # not the one of everybody, which may be full, or hold files of others
        give(temporary, self.user)
        return who | {
            "cwd": self.folder,
            "stdin": subprocess.DEVNULL,
            "env": {
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "LC_ALL": "C",
                "TMPDIR": str(temporary),
            },
        }

    @contextmanager
    def started(self) -> Iterator[Self]:
        """It runs meanwhile."""
        if threading.current_thread() is threading.main_thread():
            # Who ends the tests by SIGTERM, as `timeout` does, ends the servers with them.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        give(self.folder, self.user)
        self.prepare()
        try:
            self.start()
            yield self
        finally:
            self.stop()


def _group(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid
