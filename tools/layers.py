"""The layers of the package, as import-linter checks them: imports run from an upper one to a lower one.

The contracts in ``pyproject.toml`` are the one list of them. The measurement and the drawing of the package take
it from there.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PACKAGE = "sqlsessions"
PACKAGES = (PACKAGE, f"{PACKAGE}.sql")
"""The packages whose modules and packages are rooms of the house."""


def _contracts() -> dict[str, dict[str, Any]]:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    found = project["tool"]["importlinter"]["contracts"]
    return {each["containers"][0]: each for each in found if each["type"] == "layers"}


_FOUND = _contracts()

LAYERS: dict[str, list[tuple[str, ...]]] = {
    package: [tuple(layer.split(" | ")) for layer in _FOUND[package]["layers"]] for package in PACKAGES
}
"""The layers within a package, from top to bottom; what shares one does not import each other."""

OUTSIDE: tuple[str, ...] = tuple(_FOUND[PACKAGE]["exhaustive_ignores"])
"""Parts of the package that are in no layer: nothing in it uses them."""


def rooms(package: str = PACKAGE) -> Iterator[tuple[str, ...]]:
    """The layers of the whole package, from top to bottom, each as full names of modules and packages."""
    for layer in LAYERS[package]:
        names = tuple(f"{package}.{name}" for name in layer)
        if names[0] in LAYERS:
            yield from rooms(names[0])
        else:
            yield names


def room_of(module: str) -> str | None:
    """The room that a module is in; None for a package of rooms itself and for what is outside."""
    found = (name for layer in rooms() for name in layer if module == name or module.startswith(f"{name}."))
    return next(found, None)
