"""The tools that look at how the package is built."""

import subprocess
import sys
from pathlib import Path

import pytest

from tools.imports import Imports, module_of
from tools.layers import LAYERS, OUTSIDE, room_of, rooms
from tools.operations import Trail
from tools.structure import code_lines, forwarding

ROOT = Path(__file__).parent.parent
SOURCE = '''\
"""Text."""

import it  # here


class Delegate:
    """Text
    of two lines.
    """

    def passes(self, a, *more, b=None):
        """Text."""
        return self.inner.other(a, *more, b=b)

    async def aclose(self):
        await self.inner.aclose()

    def counts(self):
        return self.inner.close()

    def changes(self, a):
        return self.inner.changes(a + 1)

    def adds(self, a):
        return self.inner.adds(a, 1)

    def drops(self, a, b):
        return self.inner.drops(a)

    def extends(self, a):
        return super().extends(a)

    def works(self, a):
        self.count += 1
        return self.inner.works(a)


def plain(a):

    async def within(b):
        # a comment
        return await it(b)

    return within
'''


def test_functions_that_only_forward_are_found() -> None:
    assert forwarding(SOURCE) == ["Delegate.passes", "Delegate.aclose", "plain.within"]


def test_lines_of_code_are_counted() -> None:
    assert code_lines(SOURCE) == 23


def test_changes_of_file_are_counted() -> None:
    trail = Trail(["a.py", "a.py", "b.py", "a.py", "c.py", "c.py"])
    assert (trail.files, trail.changes, trail.steps()) == (3, 3, ["a.py", "b.py", "a.py", "c.py"])


def test_every_module_is_in_a_layer() -> None:
    imports = Imports()
    outside = {name for name in imports.modules if name.split(".")[1:2] in [[one] for one in OUTSIDE]}
    assert {name for name in imports.modules if room_of(name) is None} == outside | set(LAYERS)
    assert {room for layer in rooms() for room in layer} == {room_of(name) for name in imports.modules} - {
        None
    }


def test_an_upward_import_is_found() -> None:
    imports = Imports()
    imports.pairs = [
        ("sqlsessions.sql.models", "sqlsessions.sql.storage"),
        ("sqlsessions.sql.storage", "sqlsessions.sql.models"),
        ("sqlsessions.errors", "sqlsessions.sql.engine.urls"),
        ("sqlsessions.testing.clock", "sqlsessions.memory"),
    ]
    assert imports.upward() == [imports.pairs[0], imports.pairs[2]]


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("sqlsessions/sql/models.py", "sqlsessions.sql.models"),
        ("sqlsessions/sql/__init__.py", "sqlsessions.sql"),
    ],
)
def test_a_file_is_a_module(file: str, module: str) -> None:
    assert module_of(file) == module


def test_the_structure_is_measured() -> None:
    command = [sys.executable, "-m", "tools.structure", "--list"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    [line] = [line for line in done.stdout.splitlines() if line.startswith("a small write on SQLite: ")]
    files, changes = (int(word) for word in line.rpartition(":")[2].split() if word.isdigit())
    assert 5 < files <= changes
    assert "modules in no layer: 0" in done.stdout
