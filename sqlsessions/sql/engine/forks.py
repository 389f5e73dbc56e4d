"""What a process that was forked makes of the connections of the one before it: nothing.

Two processes on one connection would read each other's answers. So the child leaves the parent's connections as
they are, unused and unclosed, and opens its own. A SQLite file is the exception: what SQLite knows of its locks is
inherited with the process, and not the locks, so that no connection of the child's to that file would be safe.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from ...errors import StorageUnavailable


class Forks:
    """Notices that this process was forked while something had connections.

    Args:
        left: Called in the child: forgets the connections, and gives them.

    Attributes:
        inherited: Whether they were another process's.
    """

    def __init__(self, left: Callable[[], list[Any]]) -> None:
        self._left = left
        self.inherited = False
        _ALL.add(self)

    def leave(self) -> None:
        """Leave the parent's connections to it; called in the child."""
        if connections := self._left():
            self.inherited = True
            # Never freed, since that would close them.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(connections))


_ALL: WeakSet[Forks] = WeakSet()


def inherited_sqlite() -> StorageUnavailable:
    """Why a SQLite database is not opened in the child."""
    return StorageUnavailable(
        "this process was forked while its parent had the SQLite database open, whose locks it cannot share: close "
        "the storage before the fork, or start processes by spawn"
    )


def inherited_engine() -> StorageUnavailable:
    """Why the caller's engine is not used in the child."""
    return StorageUnavailable(
        "this process was forked while its parent used the storage's engine, whose connections are the parent's: "
        "make the engine after the fork, or give the storage a URL"
    )


def _in_child() -> None:
    for each in list(_ALL):
        each.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
