"""The lowest versions that ``pyproject.toml`` admits, as constraints for pip: ``python -m tools.lowest``.

Of the dependencies and of the extras that users install; what only development needs is taken as it comes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from .pythons import as_numbers, project

OF_DEVELOPMENT = {"quick", "suite", "dev", "bench", "example"}
BOUND = re.compile(r"(?P<name>[\w.-]+)(\[[\w,-]+\])?>=(?P<version>[\d.]+)")


def lowest() -> dict[str, str]:
    """The lowest version of each package; of several bounds, the highest."""
    found: dict[str, str] = {}
    for requirement in requirements():
        if bound := BOUND.match(requirement):
            name, version = bound["name"], bound["version"]
            found[name] = max(version, found.get(name, version), key=as_numbers)
    return found


def requirements() -> Iterator[str]:
    """What users install."""
    yield from project()["dependencies"]
    for extra, listed in project()["optional-dependencies"].items():
        if extra not in OF_DEVELOPMENT:
            yield from listed


def main() -> None:
    """Print the constraints."""
    sys.stdout.writelines(f"{name}=={version}\n" for name, version in sorted(lowest().items()))


if __name__ == "__main__":
    main()
