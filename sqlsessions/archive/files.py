"""The files that archives are written to and read from: private, locked while written, whole once named."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import ArchiveDamaged, InvalidArgument
from .format import MAGIC, PIECE, Reader, Writer

if sys.platform != "win32":
    import fcntl

STANDARD = Path("-")
"""Standard output or input."""


def opened(stack: ExitStack, path: Path, *, resume: bool, force: bool) -> Writer:
    """A writer of an archive, which gets its name at the end of the stack; see `export_sessions`."""
    if path == STANDARD:
        return Writer(sys.stdout.buffer)
    partial_path = path.with_name(f"{path.name}.partial")
    if path.exists() and not force:
        raise InvalidArgument(
            f"there is a file {str(path)!r} already: name another, or give --force to replace it"
        )
    file = stack.enter_context(_becoming(partial_path, path, anew=not (resume or force)))
    begun = file.read(len(MAGIC)) if resume else b""
    file.seek(0)
    if MAGIC.startswith(begun) and begun != MAGIC:  # killed before the first line was written
        file.truncate()
        return Writer(file)
    reader = _last_whole(file)
    file.seek(reader.position.offset)
    file.truncate()
    return Writer(file, reader.goes_on)


@contextmanager
def _becoming(partial_path: Path, path: Path, *, anew: bool) -> Iterator[BinaryIO]:
    """A file that gets its name once it is complete, and stays under the partial one if it is not.

    It is nobody else's: not one that others can read, a link to elsewhere, or one that is being written.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | (os.O_EXCL if anew else 0)
    try:
        descriptor = os.open(partial_path, flags, 0o600)
    except FileExistsError as error:
        raise InvalidArgument(
            f"there is a partial file {str(partial_path)!r} already: give --resume to go on with it, or --force "
            "to begin anew"
        ) from error
    with os.fdopen(descriptor, "r+b", buffering=PIECE) as file:
        if not _alone(descriptor, partial_path):
            raise InvalidArgument(f"another export is writing {str(partial_path)!r}: wait until it has ended")
        if hasattr(os, "fchmod"):  # not on Windows
            os.fchmod(descriptor, 0o600)
        yield file
        file.flush()
        os.fsync(descriptor)
        partial_path.replace(path)
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path.parent, os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _alone(descriptor: int, partial_path: Path) -> bool:
    """Lock a partial file, unless another process has it or has given it its name meanwhile."""
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    try:
        return os.path.samestat(os.fstat(descriptor), partial_path.lstat())
    except FileNotFoundError:
        return False


def _last_whole(file: BinaryIO) -> Reader:
    """Read a partial archive as far as it is whole."""
    reader = Reader(file)
    try:
        while reader.next() is not None:
            reader.skip()
    except ArchiveDamaged:
        pass
    return reader


def source(stack: ExitStack, path: Path) -> BinaryIO:
    """An archive to be read more than once."""
    if path != STANDARD:
        return stack.enter_context(path.open("rb", buffering=PIECE))
    spooled = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    while piece := sys.stdin.buffer.read(PIECE):
        spooled.write(piece)
    spooled.seek(0)
    return spooled
