"""What a reporter of errors shows of our objects among the locals of a frame: no id, no subject, no data."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from typing import Any

import pytest

import sqlsessions

SECRET = frozenset(
    [
        "assigned",
        "candidates",
        "data",
        "kept",
        "merged",
        "presented",
        "raw",
        "removed",
        "payload",
        "row",
        "subject",
    ]
)
"""Names of attributes that hold one."""

OF_IDS = frozenset({"_Found.id"})
"""Those named ``id`` that are no digest."""

MARKER = "the-marker"

HARMLESS = {"ExplicitOptions", "Rebinding", "SubjectStatistics"}
"""Those in which such a name is a function or a flag, or which are made to be shown."""


def kinds() -> list[type[Any]]:
    """The dataclasses and named tuples of the package that hold a secret."""
    found: set[type[Any]] = set()
    for module in pkgutil.walk_packages(sqlsessions.__path__, "sqlsessions."):
        if (
            module.name.startswith(("sqlsessions.testing", "sqlsessions.migrations"))
            or "django" in module.name
        ):
            continue  # Django's needs the settings of a project
        for each in vars(importlib.import_module(module.name)).values():
            if isinstance(each, type) and each.__module__ == module.name and SECRET & set(names(each)):
                found.add(each)
    return sorted(found, key=lambda each: (each.__module__, each.__name__))


def names(kind: type[Any]) -> list[str]:
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    return list(getattr(kind, "_fields", ()))


def made(kind: type[Any]) -> Any:
    """One of a kind, with a marker for each secret."""
    values = {
        name: MARKER if name in SECRET or f"{kind.__name__}.{name}" in OF_IDS else None
        for name in names(kind)
    }
    if not dataclasses.is_dataclass(kind):
        return kind(**values)
    instance = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(instance, name, value)
    return instance


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__qualname__)
def test_no_secret_shows(kind: type[Any]) -> None:
    if kind.__name__ not in HARMLESS:
        assert MARKER not in repr(made(kind))
