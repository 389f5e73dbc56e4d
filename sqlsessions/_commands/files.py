"""Files that commands write: private, and there whole or not at all."""

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
    """A file to write to, which only its owner can read; it gets its name once it is complete.

    Args:
        path: Where.
        replace: Whether it may replace a file.

    Raises:
        Failed: If it cannot be written, or there is one that may not be replaced.
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
