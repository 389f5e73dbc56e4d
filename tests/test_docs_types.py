"""The code of the frameworks' pages and of the README, checked by mypy --strict and by pyright.

A block with a title is a file. Those without are the rest of the page: each is nested in the one before, so that it
sees its names, and may reuse them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    *(
        ROOT / "docs" / f"{name}.md"
        for name in (
            "aiohttp",
            "django",
            "fastapi-users",
            "flask",
            "litestar",
            "quart",
            "starlette",
            "tutorial",
            "flash",
        )
    ),
]


UNTYPED = ("consumers.py", "try_channels.py")
"""Files that use Channels, which has no types of its own."""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each page, with its files."""
    directory = tmp_path_factory.mktemp("typed")
    for page in PAGES:
        folder = directory / page.stem
        folder.mkdir()
        for name, text in files_of(page):
            (folder / name).write_text(text)
    return directory


def files_of(page: Path) -> Iterator[tuple[str, str]]:
    nested: list[str] = []
    for token in MarkdownIt().parse(page.read_text()):
        language, _, title = token.info.partition(" ") if token.type == "fence" else ("", "", "")
        if language != "python" or any(name in title for name in UNTYPED):
            continue
        if title:
            yield title.removeprefix("title=").strip('"'), token.content
            continue
        text = f"async def block_{len(nested)}() -> None:\n" + textwrap.indent(token.content, "    ")
        nested.append(textwrap.indent(text, "    " * len(nested)))
    if nested:
        yield "page.py", "\n".join(nested)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_mypy_accepts_the_documented_code(page: Path, code: Path) -> None:
    options = ["--strict", "--follow-imports=silent", "--cache-dir", str(code.parent / "mypy")]
    if page.stem == "django":  # which has no types of its own
        options.append("--disable-error-code=import-untyped")
    checked([sys.executable, "-m", "mypy", *options, "."], code / page.stem, MYPYPATH=str(ROOT))


@pytest.mark.timeout(300)
def test_pyright_accepts_the_documented_code(code: Path) -> None:
    settings = {
        "typeCheckingMode": "standard",
        "executionEnvironments": [{"root": page.stem, "extraPaths": [str(ROOT)]} for page in PAGES],
    }
    (code / "pyrightconfig.json").write_text(json.dumps(settings))
    checked([sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable], code)


def checked(command: list[str], directory: Path, **variables: str) -> None:
    answer = subprocess.run(
        command, cwd=directory, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
