"""The layers of the package: imports run from an upper one to a lower one, never the other way.

This is the one list of them. The measurement and the drawing of the package take it from here, and
``python -m tools.layers`` prints it as contracts for import-linter.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

PACKAGE = "sqlsessions"
LAYERS: dict[str, list[tuple[str, ...]]] = {
    PACKAGE: [
        ("integrations", "cli"),
        ("_commands",),
        ("archive", "schema"),
        ("sql",),
        ("cache", "memory"),
        ("_versions",),
        ("records",),
        ("events",),
        ("storage",),
        ("purging", "channels"),
        ("_validation",),
        ("info", "errors", "_tasks"),
    ],
    f"{PACKAGE}.sql": [
        ("storage", "diagnosis"),
        ("repository",),
        ("staging", "purge", "purge_lease", "replica"),
        ("drivers",),
        ("batching",),
        ("statements",),
        ("engine",),
        ("models", "dialects"),
    ],
}
"""The layers within a package, from top to bottom; what shares one does not import each other."""

OUTSIDE = ("migrations", "testing")
"""Parts of the package that are in no layer: they are used by nothing in it."""


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


def contracts() -> str:
    """The layers as contracts of import-linter, in TOML."""
    parts = []
    for package, layers in LAYERS.items():
        lines = [f'    "{" | ".join(layer)}",' for layer in layers]
        ignored = ", ".join(f'"{name}"' for name in OUTSIDE) if package == PACKAGE else ""
        parts.append(
            "\n".join(
                [
                    "[[tool.importlinter.contracts]]",
                    f'name = "Imports run one way in {package}"',
                    'type = "layers"',
                    f'containers = ["{package}"]',
                    "exhaustive = true",
                    *([f"exhaustive_ignores = [{ignored}]"] if ignored else []),
                    "layers = [",
                    *lines,
                    "]\n",
                ]
            )
        )
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(contracts())
