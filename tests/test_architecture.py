"""The drawing of the package and the page about it say what the code says."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.architecture import reduced
from tools.routes import Box, Router

from .test_docs import parsed, tokens

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
CODE = {token.content for token in tokens(parsed(PAGE)) if token.type == "code_inline"}
PATHS = sorted(code for code in CODE if "/" in code or re.search(r"\.(py|md|toml)(::|$)", code))
NAMES = sorted(code for code in CODE - set(PATHS) if re.fullmatch(r"[a-z_]+(\.\w+)+", code))


def test_the_drawing_and_the_table_are_up_to_date() -> None:
    subprocess.run([sys.executable, "-m", "tools.architecture", "--check"], cwd=ROOT, check=True)


@pytest.mark.parametrize("path", PATHS)
def test_what_the_page_names_is_there(path: str) -> None:
    """Paths are of the package or of the checkout; what follows them is defined in the file."""
    file, _, name = path.partition("::")
    found = next(folder / file for folder in (ROOT / "sqlsessions", ROOT) if (folder / file).exists())
    if name:
        nodes = ast.walk(ast.parse(found.read_text()))
        assert name in {
            node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }


@pytest.mark.parametrize("name", NAMES)
def test_the_names_of_the_page_can_be_imported(name: str) -> None:
    """A name such as ``records.digest``, and a class with its method after the path of a module."""
    parts = f"sqlsessions.{name}".split(".") if not name.startswith("tools.") else name.split(".")
    value: object = importlib.import_module(parts[0])
    for place, part in enumerate(parts[1:], 2):
        if not hasattr(value, part):
            importlib.import_module(".".join(parts[:place]))
        value = getattr(value, part)


def test_a_method_follows_the_file_that_has_it() -> None:
    """``path``, `Class.method`: as the paths of operations name them."""
    found = re.findall(r"`([\w/]+\.py)`,\s+`([A-Z]\w+)\.(\w+)`", PAGE.read_text())
    assert len(found) > 5
    for file, owner, method in found:
        nodes = ast.walk(ast.parse((ROOT / "sqlsessions" / file).read_text()))
        [own] = [node for node in nodes if isinstance(node, ast.ClassDef) and node.name == owner]
        assert method in {
            node.name for node in own.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }


def test_what_follows_from_other_imports_is_left_out() -> None:
    assert reduced({("a", "b"), ("b", "c"), ("a", "c"), ("a", "d")}) == [("a", "b"), ("a", "d"), ("b", "c")]


def test_arrows_go_around_boxes() -> None:
    boxes = {"top": Box(0, 1, 2), "between": Box(1, 0.5, 2.5), "bottom": Box(2, 1, 2)}
    [route] = Router(boxes, 4).routes([("top", "bottom")]).values()
    assert not 0.5 <= route.column <= 2.5
    assert 1 <= route.start <= 2
    assert 1 <= route.end <= 2


def test_no_arrow_goes_upward() -> None:
    with pytest.raises(ValueError, match="not drawn above it"):
        Router({"top": Box(0, 0, 1), "bottom": Box(1, 0, 1)}, 1).routes([("bottom", "top")])
