"""The package as a whole: its public names, its imports, its files."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import sqlsessions
from sqlsessions import SessionError, errors

ROOT = Path(__file__).parent.parent
ROOMS = ("sqlsessions", "migrations", "examples", "benchmarks", "tests", "tools")
MODULES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
PUBLIC = [
    module.name
    for module in pkgutil.walk_packages(sqlsessions.__path__, "sqlsessions.")
    if "._" not in module.name and not module.name.startswith("sqlsessions.migrations")
]
# Written so that this file does not match itself.
TRACES = r"/(home|root|work|Users)/\w|(extra-)?index[-_]url|PIP_(EXTRA_)?INDEX|pypi\.org/simple"


def test_all_is_sorted_and_importable() -> None:
    constants = [name for name in sqlsessions.__all__ if name.isupper()]
    classes = [name for name in sqlsessions.__all__ if name[0].isupper() and not name.isupper()]
    functions = [name for name in sqlsessions.__all__ if name[0].islower()]
    assert sqlsessions.__all__ == [*sorted(constants), *sorted(classes), *sorted(functions)]
    for name in sqlsessions.__all__:
        assert getattr(sqlsessions, name) is not None


def test_all_is_complete() -> None:
    """What `__init__` holds besides submodules is listed, and every error and storage is there."""
    public = {name for name, value in vars(sqlsessions).items() if not isinstance(value, ModuleType)}
    public -= {name for name in public if name.startswith("_")} | {"Any", "TYPE_CHECKING", "import_module"}
    public |= {error.__name__ for error in own_errors()}
    public |= {storage.__name__ for storage in storages(sqlsessions.SessionStorage)}
    assert public <= set(sqlsessions.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = sqlsessions.nothing


PACKAGES = {
    "cache.bus.redis": ("redis", "redis"),
    "integrations.agent_framework": ("agent_framework", "agent-framework"),
    "integrations.aiohttp": ("aiohttp_session", "aiohttp"),
    "integrations.django": ("django", "django"),
    "integrations.fastapi": ("fastapi", "fastapi"),
    "integrations.fastapi_users": ("fastapi_users", "fastapi-users"),
    "integrations.flask": ("flask", "flask"),
    "integrations.key_value": ("key_value", "key-value"),
    "integrations.litestar": ("litestar", "litestar"),
    "integrations.oidc": ("joserfc", "oidc"),
    "integrations.opentelemetry": ("opentelemetry", "otel"),
    "integrations.quart": ("quart", "quart"),
    "integrations.starlette": ("starlette", "starlette"),
    "integrations.starsessions": ("starsessions", "starsessions"),
    "moving.redis": ("redis", "redis"),
    "testing": ("pytest", "test"),
}
"""What modules need, and the extra that installs it."""

# A module in place of which sys.modules has None is one that is not installed.
WITHOUT = """
import sys
from importlib import import_module
for module, package in zip(sys.argv[1::2], sys.argv[2::2]):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("sqlsessions", package)]:
        del sys.modules[name]
    sys.modules[package] = None
    try:
        import_module(f"sqlsessions.{module}")
    except ModuleNotFoundError as error:
        print(module, error)
    del sys.modules[package]
"""


def test_an_import_without_its_package_names_the_extra() -> None:
    pairs = [word for module, (package, _) in PACKAGES.items() for word in (module, package)]
    command = [sys.executable, "-W", "error", "-c", WITHOUT, *pairs]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(said) == len(PACKAGES)
    for line, (module, (_, extra)) in zip(said, PACKAGES.items(), strict=True):
        assert line.startswith(f"{module} "), line
        assert line.endswith(f" needs what `pip install 'sqlsessions[{extra}]'` installs"), line
    public = {name.removeprefix("sqlsessions.") for name in PUBLIC if name.count(".") == 2}
    others = {name for name in public if name.startswith("integrations.")} - set(PACKAGES)
    assert others == {"integrations.admin", "integrations.cross_origin"}


def test_the_import_is_light() -> None:
    code = "import sys, sqlsessions; print(*{name.partition('.')[0] for name in sys.modules})"
    command = [sys.executable, "-W", "error", "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "sqlsessions" in loaded
    assert not {"sqlalchemy", "alembic", "typer", "rich", "pytest", "aiosqlite", "greenlet"} & set(loaded)


def test_telemetry_is_loaded_by_its_own_module_only() -> None:
    code = """
import asyncio, sys
from sqlsessions import CacheStorage, SqlSessionStorage

async def use() -> None:
    async with CacheStorage(SqlSessionStorage("sqlite://")) as storage:
        await storage.write_bytes("id", b"data")
        assert await storage.read_bytes("id") == b"data"

asyncio.run(use())
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
import sqlsessions.integrations.opentelemetry
assert "opentelemetry" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_suites_for_others_import_no_framework() -> None:
    code = """
import sys
import tomllib
import sqlsessions.testing
frameworks = {"starlette", "fastapi", "litestar", "aiohttp", "django", "quart", "flask", "werkzeug", "starsessions"}
assert not (frameworks | {"httpx", "sqlsessions.integrations"}) & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_error_is_a_session_error() -> None:
    assert SessionError in own_errors()
    assert all(issubclass(error, SessionError) for error in own_errors())


@pytest.mark.parametrize("error", [e for e in vars(errors).values() if isinstance(e, type)])
def test_errors_can_be_copied_to_another_process(error: type[SessionError]) -> None:
    import pickle

    original = error(10, 11) if error is errors.SessionTooLarge else error("what went wrong")
    copied = pickle.loads(pickle.dumps(original))  # noqa: S301
    assert type(copied) is error
    assert (str(copied), vars(copied)) == (str(original), vars(original))


@pytest.mark.parametrize("name", PUBLIC)
def test_whatever_is_public_has_a_docstring(name: str) -> None:
    try:
        loaded = importlib.import_module(name)
    except ModuleNotFoundError as error:  # of the extra dev, not of suite or quick
        assert "sqlsessions.integrations" in name
        pytest.skip(str(error))
    assert loaded.__doc__
    assert not [found for found, value in described(loaded) if not inspect.getdoc(value)]


def test_no_module_is_long() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in MODULES}
    assert not {path: count for path, count in lines.items() if count >= 400}


def test_nothing_tells_where_it_was_made() -> None:
    """No file of the repository names a path of somebody's machine or a package index."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "grep", "-nIE", "--untracked", TRACES]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (1, "")


def own_errors() -> list[type[BaseException]]:
    return [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, BaseException)]


def storages(base: type[Any]) -> Iterator[type[Any]]:
    """The storages that the package defines."""
    for found in base.__subclasses__():
        if re.match(r"sqlsessions\.(?!testing|integrations)", found.__module__):
            yield found
        yield from storages(found)


def described(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The public classes, methods and functions that a module defines."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(value):
            members = [n for n, member in vars(value).items() if inspect.isfunction(member) and n[0] != "_"]
            yield from ((f"{name}.{member}", getattr(value, member)) for member in members)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, value


def test_every_package_is_in_the_wheel() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "sqlsessions").rglob("__init__.py")
    }
    found |= {"sqlsessions.migrations", "sqlsessions.migrations.versions"}
    assert project["tool"]["setuptools"]["packages"] == sorted(found)
