"""A hook of MkDocs: links that leave ``docs/``, and a look whether the reference has every public name."""

from __future__ import annotations

import ast
import logging
import re
import zlib
from pathlib import Path
from typing import Any

KEPT = "https://github.com/sqlsessions/sqlsessions/blob/main/"
FRAMEWORKS = (
    "admin", "agent_framework", "aiohttp", "cross_origin", "django", "fastapi", "fastapi_users", "flask", "key_value", "litestar",
    "oidc", "opentelemetry", "quart", "starlette", "starsessions",
)  # fmt: skip
MODULES = (
    *("sqlsessions", "sqlsessions.archive", "sqlsessions.layers", "sqlsessions.moving", "sqlsessions.schema"),
    "sqlsessions.testing",
    *(f"sqlsessions.integrations.{name}" for name in FRAMEWORKS),
)
"""Whose ``__all__`` is the public interface."""

ROOT = Path(__file__).parent.parent
HEADER_LINES = 4
logger = logging.getLogger("mkdocs.hooks.site")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The text of a page, whose links out of the folder lead to where the project is kept."""
    return re.sub(r"\]\((?:\.\./)+(?=[A-Za-z])", f"]({KEPT}", markdown)


def on_post_build(config: Any) -> None:
    """Warn of public names that are not in the reference; with ``--strict`` that is an error."""
    described = inventory((Path(config["site_dir"]) / "objects.inv").read_bytes())
    for name in sorted(public() - described):
        logger.warning("%s is not in the reference", name)


def inventory(data: bytes) -> set[str]:
    """The names of an inventory, as Sphinx and MkDocs write it."""
    packed = data.split(b"\n", HEADER_LINES)[HEADER_LINES]
    return {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}


def public() -> set[str]:
    """The public names, each with its module, as the source lists them in ``__all__``."""
    return {f"{module}.{name}" for module in MODULES for name in _listed(module)}


def _listed(module: str) -> list[str]:
    path = ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    raise ValueError(f"{module} has no __all__")
