"""What an import from another library says where a package that it needs is not installed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from sqlsessions import schema

from ..commands.support import run as command

REDIS = ["--source", "redis://127.0.0.1:1"]
TABLE = ["--source", "sqlite:///old.db"]


@pytest.mark.parametrize(
    ("library", "package", "options", "wanted"),
    [
        ("starsessions", "redis", REDIS, "'sqlsessions[redis]'"),
        ("litestar", "redis", REDIS, "'sqlsessions[redis]'"),
        ("aiohttp-session", "redis", REDIS, "'sqlsessions[redis]'"),
        ("flask-session-redis", "redis", REDIS, "'sqlsessions[redis]'"),
        ("flask-session-redis", "msgspec", REDIS, "msgspec"),
        ("flask-session-redis", "itsdangerous", [*REDIS, "--source-key", "a"], "'sqlsessions[flask]'"),
        ("flask-session-sqlalchemy", "msgspec", TABLE, "msgspec"),
        ("flask-session-sqlalchemy", "itsdangerous", [*TABLE, "--source-key", "a"], "'sqlsessions[flask]'"),
        ("django", "django.core", [*TABLE, "--source-key", "a"], "'sqlsessions[django]'"),
    ],
)
def test_a_missing_package_is_named(
    library: str,
    package: str,
    options: list[str],
    wanted: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    asyncio.run(schema.upgrade(url))
    monkeypatch.delitem(sys.modules, "sqlsessions.moving.redis", raising=False)
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    result = command("import", "--from", library, *options, "--url", url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(f" needs what `pip install {wanted}` installs\n")
    assert result.stderr.count("\n") == 1
