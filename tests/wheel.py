"""Builds the package and uses it as its users do: ``python -m tests.wheel``.

Everything happens in a temporary directory, on a copy of the checkout, so that neither what was built
before nor the checkout itself can stand in for something that the wheel lacks.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis", "*.db*"
)
NOT_THEIRS = ("PYTHONPATH", "SQLSESSIONS_URL")
URL = "sqlite+aiosqlite:///x.db"
IN_WHEEL = {
    "sqlsessions/__init__.py",
    "sqlsessions/py.typed",
    "sqlsessions/sql/dialects/__init__.py",
    "sqlsessions/testing/__init__.py",
    "sqlsessions/migrations/__init__.py",
    "sqlsessions/migrations/env.py",
    "sqlsessions/migrations/script.py.mako",
    "sqlsessions/migrations/versions/sqlsessions_0001_sessions.py",
    "sqlsessions/migrations/versions/sqlsessions_0002_notices.py",
    "sqlsessions/migrations/versions/sqlsessions_0003_polled_notices.py",
    "sqlsessions/migrations/versions/sqlsessions_0004_labels_and_ends.py",
    "sqlsessions/migrations/versions/sqlsessions_0005_notices_without_deadlocks.py",
}
IN_SDIST = {
    *("README.md", "LICENSE", "Makefile", "alembic.ini", "constraints.txt"),
    *("migrations/env.py", "migrations/script.py.mako", "docs/migrations.md", "tests/wheel.py"),
    "examples/fastapi_service/app.py",
}

LIGHT = """
import sys, sqlsessions
heavy = {"sqlalchemy", "alembic", "typer"} & set(sys.modules)
sys.exit(f"import sqlsessions imports {heavy}" if heavy else 0)
"""
ROUND = f"""
import asyncio
from sqlsessions import SqlSessionStorage, new_session_id

async def main():
    async with SqlSessionStorage("{URL}") as storage:
        small, large = new_session_id(), new_session_id()
        for id, data in ((small, b"data"), (large, bytes(1_000_000))):
            await storage.write_bytes(id, data)
            assert await storage.read_bytes(id) == data

asyncio.run(main())
"""
WHERE = """
import sys
from importlib.resources import files
found = files("sqlsessions.migrations")
lacking = [name for name in ("env.py", "script.py.mako", "versions") if not found.joinpath(name).exists()]
sys.exit(f"{found} lacks {lacking}" if lacking else 0)
"""


class Failed(Exception):
    """A proof failed; the message says which."""


def main() -> None:
    """Build, install, use; say each thing that is proven."""
    with tempfile.TemporaryDirectory(prefix="sqlsessions-wheel-") as name:
        place = Path(name)
        source = place / "source"
        shutil.copytree(ROOT, source, ignore=LEFT_OUT)
        wheel = build(source, place / "wheel", "wheel")
        check_names(wheel)
        check_sdist(build(source, place / "sdist", "sdist"), wheel, place)
        python = environment(place / "venv")
        empty = place / "empty"
        empty.mkdir()
        install(python, empty, f"{wheel}[cli]")
        check_use(python, empty, "the wheel")
        (empty / "x.db").unlink()
        install(python, empty, "--no-deps", "--force-reinstall", "-e", str(source))
        check_use(python, empty, "an editable install")


def build(source: Path, target: Path, kind: str) -> Path:
    """Build a wheel or an sdist of a source tree."""
    run("building", sys.executable, "-m", "build", f"--{kind}", "--outdir", str(target), str(source))
    (built,) = target.iterdir()
    say(f"{built.name} can be built")
    return built


def check_names(wheel: Path) -> None:
    """The wheel holds the package with its migrations, and nothing else."""
    names = set(contents(wheel))
    expect(names >= IN_WHEEL, f"the wheel lacks {sorted(IN_WHEEL - names)}")
    say("the wheel holds the migrations and py.typed")
    other = {name for name in names if not name.startswith(("sqlsessions/", "sqlsessions-"))}
    expect(not other, f"the wheel holds more than the package: {sorted(other)}")
    expect(not {name for name in names if name.endswith((".pyc", ".db"))}, "the wheel holds left-overs")
    wanted = {str(path.relative_to(ROOT)) for path in (ROOT / "sqlsessions").rglob("*.py")}
    expect(names >= wanted, f"the wheel lacks {sorted(wanted - names)}: see `packages` in pyproject.toml")
    say("the wheel holds the whole package and neither tests nor examples")


def check_sdist(sdist: Path, wheel: Path, place: Path) -> None:
    """The sdist holds what a checkout does, and builds the same wheel."""
    with tarfile.open(sdist) as archive:
        archive.extractall(place / "unpacked", filter="data")
    (unpacked,) = (place / "unpacked").iterdir()
    lacking = {name for name in IN_SDIST if not (unpacked / name).exists()}
    expect(not lacking, f"the sdist lacks {sorted(lacking)}: see MANIFEST.in")
    say("the sdist holds alembic.ini, migrations, tests and docs")
    again = contents(build(unpacked, place / "again", "wheel"))
    first = contents(wheel)
    different = sorted(name for name in first.keys() | again.keys() if first.get(name) != again.get(name))
    expect(not different, f"the sdist builds a wheel that differs in {different}")
    say("the sdist builds the same wheel")


def check_use(python: Path, empty: Path, what: str) -> None:
    """What is installed can be used, from a directory outside any checkout."""
    sqlsessions = str(python.with_name("sqlsessions"))
    steps = {
        "imports light": [str(python), "-W", "error", "-c", LIGHT],
        "has its migrations": [str(python), "-c", WHERE],
        "upgrades": [sqlsessions, "upgrade", "--url", URL],
        "shows the revision": [sqlsessions, "current", "--url", URL],
        "checks": [sqlsessions, "check", "--url", URL],
        "prints SQL": [sqlsessions, "sql", "--url", URL],
        "writes and reads": [str(python), "-W", "error", "-c", ROUND],
    }
    expected = {"shows the revision": "sqlsessions_0005", "prints SQL": "CREATE TABLE sessions"}
    for step, command in steps.items():
        output = run(f"{what}: {step}", *command, cwd=empty)
        expect(expected.get(step, "") in output, f"{what}: {step}: unexpected output {output!r}")
        say(f"{what} {step}")


def environment(place: Path) -> Path:
    """A fresh environment; gives its Python."""
    venv.create(place, with_pip=True)
    return place / ("Scripts" if os.name == "nt" else "bin") / "python"


def install(python: Path, cwd: Path, *arguments: str) -> None:
    """Install with the versions that the project is developed with."""
    options = ["--quiet", "--disable-pip-version-check", "-c", str(ROOT / "constraints.txt")]
    run("installing", str(python), "-m", "pip", "install", *options, *arguments, cwd=cwd)


def contents(wheel: Path) -> dict[str, int]:
    """The files of a wheel, with their checksums."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}


def run(what: str, *command: str, cwd: Path | None = None) -> str:
    """Run a command that must succeed, without the checkout on its path; gives its output."""
    clean = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SQLSESSIONS_URL")
    }
    done = subprocess.run(
        command, cwd=cwd, env=clean, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    expect(
        done.returncode == 0, f"{what}: {Path(command[0]).name} ended with {done.returncode}\n{done.stdout}"
    )
    return done.stdout


def expect(holds: bool, otherwise: str) -> None:
    """Fail with a message unless something holds."""
    if not holds:
        raise Failed(otherwise)


def say(proven: str) -> None:
    """Report something that is proven."""
    print(f"ok: {proven}", flush=True)  # noqa: T201


if __name__ == "__main__":
    try:
        main()
    except Failed as error:
        sys.exit(f"failed: {error}")
