"""The documentation, executed.

Of every page, in order and in one directory: a ``python`` block runs, a block with a title becomes the
file of that name, and of a ``console`` block the commands run that need neither a network nor a server.
"""

import ast
import asyncio
import inspect
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient, Cookies
from markdown_it import MarkdownIt
from markdown_it.token import Token
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from sqlsessions.testing import IntegrationContract

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
OTHERS = [ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")]
RUN = {"alembic", "pytest", "python", "sqlsessions"}
SHOWN = {"curl", "export", "git", "gunicorn", "make", "pip", "uvicorn"}  # to the reader only
KEPT = (
    "https://github.com/sqlsessions/sqlsessions/blob/main/",
    "https://raw.githubusercontent.com/sqlsessions/sqlsessions/main/",
)
URL = "sqlite:///sessions.db"
DATABASE = re.compile(r"(postgresql|mysql|mariadb|sqlite)(\+\w+)?:.*")

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty directory to run a page in, with the path of the environment's own commands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("SQLSESSIONS_URL", URL)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]  # the next page's file of this name is another


@by_page
async def test_blocks_run(page: Path, directory: Path) -> None:
    namespace: dict[str, Any] = {"__name__": page.stem}
    for block in parsed(page):
        if block.type != "fence":
            continue
        language, _, title = block.info.partition(" ")
        if title:
            named = re.fullmatch(r'title="([^"]+)"', title)
            assert named, f"{page.name}: the site shows a block with {title} as text, and not as code"
            file = directory / named[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.content)
        elif language == "python":
            await run(block, page, namespace)
        elif language in ("console", "bash"):
            for line in block.content.splitlines():
                await command(line, directory)
        else:
            assert language in ("text", "sql", "ini", "yaml"), (
                f"{page.name}: what is a block of {language!r}?"
            )
    if page.name == "README.md":
        await visit(namespace["app"])


async def run(block: Token, page: Path, namespace: dict[str, Any]) -> None:
    """Run a block of Python, which may await."""
    assert block.map
    lines = "\n" * (block.map[0] + 1)  # so that a traceback shows the line of the page
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(lines + block.content, str(page), "exec", flags=flags, dont_inherit=True)
    result = eval(code, namespace)  # noqa: S307
    if inspect.iscoroutine(result):
        await result


async def command(line: str, directory: Path) -> None:
    """Run a line of a console, on a database of this test."""
    if not (words := shlex.split(line.removeprefix("$ "), comments=True)):
        return
    assert words[0] in RUN | SHOWN, f"is {words[0]} to be run? Say so in {Path(__file__).name}"
    if words[0] in SHOWN:
        return
    if words[:2] != ["sqlsessions", "sql"]:  # which connects to nothing
        words = [DATABASE.sub(URL, word) for word in words]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *words, cwd=directory, stdout=pipe, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"{line}\n{output.decode()}"


async def visit(app: FastAPI) -> None:
    """Use the service of the README: its sessions are private, count, and end for good."""
    transport = ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=transport, base_url="https://service") as alice,
        AsyncClient(transport=transport, base_url="https://service") as bob,
    ):
        for browser, name in ((alice, "alice"), (bob, "bob")):
            assert (await browser.post("/visit")).status_code == 401
            cookie = (await browser.post("/login", params={"user": name})).headers["set-cookie"]
            assert {"httponly", "secure", "samesite=lax"} <= set(cookie.split("; "))
        for count in range(1, 11):
            assert (await alice.post("/visit")).json() == {"user": "alice", "visits": count}
        assert (await bob.post("/visit")).json() == {"user": "bob", "visits": 1}
        parallel = await asyncio.gather(*(alice.post("/visit") for _ in range(30)))
        assert sorted(answer.json()["visits"] for answer in parallel) == list(range(11, 41))
        left_over = dict(alice.cookies)
        assert (await alice.post("/logout")).is_success
        assert not alice.cookies
        for cookies in ({}, left_over, {"session": ""}, {"session": "x" * 5000}):
            alice.cookies = Cookies(cookies)
            assert (await alice.post("/visit")).status_code == 401
        assert (await bob.post("/visit")).json()["visits"] == 2


@by_page
def test_what_a_page_installs_is_what_it_uses(page: Path) -> None:
    """The command, and a database for it, on each page that begins with an installation."""
    consoles = [block.content for block in parsed(page) if block.type == "fence" and block.info == "console"]
    lines = [shlex.split(line.removeprefix("$ ")) for line in "".join(consoles).splitlines()]
    extras: set[str] = set()
    named = False
    for words in filter(None, lines):
        for extra in re.findall(r"sqlsessions\[(.*?)\]", " ".join(words[2:])) if words[0] == "pip" else ():
            extras |= set(extra.split(","))
        named |= words[0] == "export" and words[1].startswith("SQLSESSIONS_URL=")
        if words[0] == "sqlsessions" and extras:
            assert "cli" in extras, f"the command of {words} is not installed"
            assert named or "--url" in words or words[1] not in ("upgrade", "check"), (
                f"{words} needs a database"
            )


@by_page
def test_a_page_installs_what_it_imports(page: Path) -> None:
    """Whoever follows a page in a new environment has all of its packages, those of other pages aside."""
    fences = [block for block in parsed(page) if block.type == "fence"]
    lines = [
        shlex.split(line.removeprefix("$ "), comments=True)
        for block in fences
        if block.info == "console"
        for line in block.content.splitlines()
    ]
    named = [word for words in lines if words[:2] == ["pip", "install"] for word in words[2:]]
    if not any(word.startswith("sqlsessions") for word in named):
        return
    installed = closure(Requirement(word) for word in named if not word.startswith("-"))
    own = {re.sub(r"\W.*", "", block.info.partition('"')[2]) for block in fences}
    used = {words[0] for words in lines if words and words[0] in ("uvicorn", "gunicorn")}
    for block in fences:
        if block.info.startswith("python"):
            used |= imports(block.content) - own - sys.stdlib_module_names
    owners = packages_distributions()
    for module in sorted(used):
        found = [UNTOLD[module]] if module in UNTOLD else owners.get(module, [module])
        assert installed & set(map(canonicalize_name, found)), (
            f"{module} is not installed: name one of {found}"
        )


UNTOLD = {
    "fastapi.testclient": "httpx2",
    "sqlsessions.testing": "pytest",
    "starlette.testclient": "httpx2",
}
"""Modules that need a package which theirs does not bring along."""


def imports(source: str) -> set[str]:
    """The modules that a block imports, by their first names; those of `UNTOLD` by all of it."""
    found: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name if name in UNTOLD else name.partition(".")[0] for name in found}


def closure(requirements: Iterable[Requirement]) -> set[str]:
    """What comes with requirements, by the metadata of what is installed here."""
    seen: set[tuple[str, str]] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras} - {extra for known, extra in seen if known == name}:
            seen.add((name, extra))
            waiting += needs(name, extra)
    return {name for name, _ in seen}


def needs(name: str, extra: str) -> list[Requirement]:
    """What a package of this name needs with an extra; none for one that is not here."""
    if name == "sqlsessions":  # as the file says now, whenever it was installed
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        return [
            Requirement(one)
            for one in (project["optional-dependencies"][extra] if extra else project["dependencies"])
        ]
    try:
        found = map(Requirement, requires(name) or [])
    except PackageNotFoundError:
        return []
    return [one for one in found if not one.marker or one.marker.evaluate({"extra": extra})]


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for token in tokens(parsed(page)):
        target = str(token.attrs.get("href") or token.attrs.get("src") or "")
        own = next((target.removeprefix(where) for where in KEPT if target.startswith(where)), None)
        if not target or (":" in target and own is None):
            continue
        path, _, anchor = (own or target).partition("#")
        file = (page.parent / path).resolve() if path else page
        if own is not None:
            file = ROOT / path
        assert own is not None or not path or page.name != "README.md", f"{target} would not work on PyPI"
        assert file.is_relative_to(ROOT), f"{target} leaves the project"
        assert file.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(file), f"{target}: {file.name} has no such heading"


def test_the_routes_of_the_contract_are_those_of_its_docstring() -> None:
    def rows(text: str) -> list[str]:
        return re.findall(r"^ *(\| `+(?:GET|POST) .*)$", text.replace("``", "`"), re.MULTILINE)

    routes = rows((ROOT / "docs" / "integrations.md").read_text())
    assert len(routes) > 10
    assert routes == rows(str(IntegrationContract.__doc__))


SETTINGS = {
    "aiohttp": "AioHttpStorage",
    "fastapi_users": "SessionStrategy",
    "flask": "SqlSessionInterface",
    "litestar": "SessionConfig",
    "quart": "SqlSessionInterface",
    "starlette": "SessionMiddleware",
}
"""What is configured, by the module of `sqlsessions.integrations`, whose page has a table of the settings."""

ELSEWHERE = {
    "app", "storage",  # positional
    "httponly", "max_age", "renew_on_access", "session_id_bytes", "store",  # of what an integration replaces
}  # fmt: skip


@pytest.mark.parametrize("module", SETTINGS)
def test_the_table_of_settings_is_complete(module: str) -> None:
    configured = getattr(import_module(f"sqlsessions.integrations.{module}"), SETTINGS[module])
    page = (ROOT / "docs" / f"{module.replace('_', '-')}.md").read_text()
    first_cells = " ".join(re.findall(r"^\|([^|]*)\|", page, re.MULTILINE))
    told = set(re.findall(r"`(\w+)`", first_cells))
    assert set(inspect.signature(configured).parameters) - ELSEWHERE <= told


def parsed(page: Path) -> list[Token]:
    return MarkdownIt().enable("table").parse(page.read_text())


def tokens(found: list[Token]) -> list[Token]:
    """Tokens and those within them."""
    return [inner for token in found for inner in (token, *tokens(token.children or []))]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives headings."""
    found = parsed(page)
    headings = (found[i + 1].content for i, token in enumerate(found) if token.type == "heading_open")
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
