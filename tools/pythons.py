"""The Pythons that are supported, and those of them that this machine has: ``python -m tools.pythons``.

The classifiers of ``pyproject.toml`` are the one list of versions. Interpreters are looked for by name on PATH,
and among the versions of a pyenv, whose commands on PATH run only the versions that are switched on.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LEAST = 3
"""How many of them there must be where SQLSESSIONS_REQUIRE_SERVICES=1."""


def project() -> dict[str, Any]:
    """The table ``project`` of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return table


def supported() -> list[str]:
    """The supported versions, such as ``3.11``, oldest first."""
    classifiers = "\n".join(project()["classifiers"])
    found = re.findall(r"^Programming Language :: Python :: (\d+\.\d+)$", classifiers, re.MULTILINE)
    return sorted(found, key=as_numbers)


def as_numbers(version: str) -> list[int]:
    """A version as numbers, which compare."""
    return [int(number) for number in re.findall(r"\d+", version)]


def interpreters() -> dict[str, Path]:
    """An interpreter for each supported version that this machine has, oldest first."""
    found = {}
    for version in supported():
        for path in candidates(version):
            if is_version(path, version):
                found[version] = path
                break
    return found


def candidates(version: str) -> Iterator[Path]:
    """Where an interpreter of a version may be."""
    name = f"python{version}"
    for folder in os.get_exec_path():
        if path := shutil.which(name, path=folder):
            yield Path(path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    installed = pyenv.glob(f"versions/{version}.[0-9]*/bin/{name}")
    yield from sorted(installed, key=lambda path: as_numbers(path.parts[-3]), reverse=True)


def is_version(path: Path, version: str) -> bool:
    """Whether an interpreter runs, and is of a version."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([str(path), "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def main() -> None:
    """Print the interpreters, a line each: version and path; or the path of one."""
    parser = argparse.ArgumentParser(prog="python -m tools.pythons", description=__doc__)
    parser.add_argument("--only", choices=["oldest", "newest"], help="the path of one of them")
    parser.add_argument("--others", action="store_true", help="without the version that runs this")
    options = parser.parse_args()
    found = interpreters()
    if len(found) < LEAST and os.environ.get("SQLSESSIONS_REQUIRE_SERVICES") == "1":
        sys.exit(
            f"{LEAST} of the Pythons {', '.join(supported())} are wanted; here: {', '.join(found) or 'none'}"
        )
    if not found:
        sys.exit(f"there is none of the Pythons {', '.join(supported())}")
    paths = list(found.values())
    if options.only:
        sys.stdout.write(f"{paths[0 if options.only == 'oldest' else -1]}\n")
    else:
        own = "{}.{}".format(*sys.version_info) if options.others else None
        sys.stdout.writelines(f"{version} {path}\n" for version, path in found.items() if version != own)


if __name__ == "__main__":
    main()
