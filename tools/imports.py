"""Who imports whom in the package, read from its source."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import grimp

from .layers import PACKAGE, room_of, rooms

Named = Callable[[str], str]


class Imports:
    """The imports between the modules of the package that comes first on ``sys.path``.

    Args:
        types: Whether imports for type checkers alone count.
        named: The name that the layers know a module by; its own unless given.
    """

    def __init__(self, *, types: bool = True, named: Named = str) -> None:
        self._graph = grimp.build_graph(PACKAGE, exclude_type_checking_imports=not types, cache_dir=None)
        self._named = named
        self.modules = sorted(self._graph.modules)
        self.pairs = sorted(
            (importer, imported)
            for importer in self.modules
            for imported in self._graph.find_modules_directly_imported_by(importer)
        )

    def circles(self) -> list[list[str]]:
        """The largest sets of modules each of which imports every other one, if by way of others."""
        found = {
            frozenset({module, *self._graph.find_upstream_modules(module)})
            & {module, *self._graph.find_downstream_modules(module)}
            for module in self.modules
        }
        return sorted(sorted(circle) for circle in found if len(circle) > 1)

    def upward(self) -> list[tuple[str, str]]:
        """The imports of a module in a higher layer, importer first."""
        height = {room: -depth for depth, layer in enumerate(rooms()) for room in layer}
        known = [(pair, self.room(pair[0]), self.room(pair[1])) for pair in self.pairs]
        return [pair for pair, low, high in known if low and high and height[low] < height[high]]

    def between_rooms(self) -> dict[tuple[str, str], int]:
        """How many imports there are from one room to another."""
        found: dict[tuple[str, str], int] = {}
        for importer, imported in self.pairs:
            pair = self.room(importer), self.room(imported)
            if pair[0] and pair[1] and pair[0] != pair[1]:
                found[pair[0], pair[1]] = found.get((pair[0], pair[1]), 0) + 1
        return found

    def room(self, module: str) -> str | None:
        """The room of a module."""
        return room_of(self._named(module))


def module_of(file: str | Path) -> str:
    """The module of a file, given by its path below the root of the checkout."""
    parts = Path(file).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
