"""Files written by commands: private, and complete or absent."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from .common import Failed


@contextmanager
def new_file(path: Path, *, replace: bool) -> Iterator[BinaryIO]:
    """Open a file for writing, which only its owner can read and which appears once it is complete.

    Args:
        path: The file.
        replace: Whether to replace an existing file.

    Raises:
        Failed: If it cannot be written, or exists and is not to be replaced.
    """
    if not replace and path.exists():
        raise Failed(f"there is a file {str(path)!r} already: give --force to replace it")
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if replace:
            Path(temporary).replace(path)
            temporary = None
        else:
            os.link(temporary, path)
    except FileExistsError as error:
        raise Failed(f"there is a file {str(path)!r} by now: give --force to replace it") from error
    except OSError as error:
        raise Failed(f"cannot write {str(path)!r}: {error.strerror}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                Path(temporary).unlink()
