"""The files of archives: private, locked while written, and renamed to their final name once whole."""

from __future__ import annotations

import os
import stat
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


def open_writer(stack: ExitStack, path: Path, *, resume: bool, force: bool) -> Writer:
    """Open an archive for writing; see `export_sessions`.

    Args:
        stack: Renames the file to its final name at its end, unless an error is raised.
        path: The file; ``-`` is standard output.
        resume: Go on with a partial file.
        force: Replace the file, and a partial one.
    """
    if path == STANDARD:
        return Writer(sys.stdout.buffer)
    partial_path = path.with_name(f"{path.name}.partial")
    if path.exists() and not force:
        raise InvalidArgument(
            f"there is a file {str(path)!r} already: name another, or give --force to replace it"
        )
    file = stack.enter_context(_partial_file(partial_path, path, anew=not (resume or force)))
    magic = file.read(len(MAGIC)) if resume else b""
    file.seek(0)
    if MAGIC.startswith(magic) and magic != MAGIC:  # new, or killed before its first line was written
        file.truncate()
        return Writer(file)
    reader = _read_whole_part(file)
    file.seek(reader.position.offset)
    file.truncate()
    return Writer(file, reader.resume_from)


@contextmanager
def _partial_file(partial_path: Path, path: Path, *, anew: bool) -> Iterator[BinaryIO]:
    """A file that is renamed to its final name at the end, and stays under the partial one after an error.

    Only its owner can read it. A symbolic link is refused, and so is a file that another export writes, or that
    another user made, who could read and change what is written.
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
        if not _is_own(os.fstat(descriptor)):
            raise InvalidArgument(
                f"{str(partial_path)!r} is another user's, or no plain file: name a file in a directory of your own"
            )
        if not _lock(descriptor, partial_path):
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


def _is_own(found: os.stat_result) -> bool:
    """Whether a file is a plain one of this user, under one name."""
    own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    return own and stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _lock(descriptor: int, partial_path: Path) -> bool:
    """Lock a partial file; False if another process has locked or renamed it."""
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    try:
        return os.path.samestat(os.fstat(descriptor), partial_path.lstat())
    except FileNotFoundError:
        return False


def _read_whole_part(file: BinaryIO) -> Reader:
    """Read a partial archive as far as it is whole."""
    reader = Reader(file)
    try:
        while reader.next() is not None:
            reader.skip()
    except ArchiveDamaged:
        pass
    return reader


def open_archive(stack: ExitStack, path: Path) -> BinaryIO:
    """Open an archive for reading, more than once: standard input is copied to a temporary file."""
    if path != STANDARD:
        return stack.enter_context(path.open("rb", buffering=PIECE))
    spooled = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    while piece := sys.stdin.buffer.read(PIECE):
        spooled.write(piece)
    spooled.seek(0)
    return spooled
