"""Arrows between boxes in rows: straight down where possible, else by the nearest way around other boxes."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

STEP, MARGIN, APART = 0.05, 0.1, 0.12
"""Columns are tried in steps, keep off boxes, and off other arrows; in units, as boxes are."""


@dataclass(frozen=True)
class Box:
    """A box in a row.

    Attributes:
        row: Counted from the top.
        left: Where it begins, in units from the left.
        right: Where it ends.
    """

    row: int
    left: float
    right: float

    def reach(self, x: float) -> float:
        """The place on it that is nearest to a column."""
        return min(max(x, self.left + MARGIN), self.right - MARGIN)


@dataclass(frozen=True)
class Route:
    """An arrow: down from its start, along to its column, down to above its end, along and into it.

    Attributes:
        start: Where it leaves its box, in units from the left.
        column: Where it passes the rows between.
        end: Where it comes to the other box.
        tracks: Of its ways along, below the start and above the end: which of several below each other.
    """

    start: float
    column: float
    end: float
    tracks: tuple[int, int]


class Router:
    """Finds ways for arrows that neither cross other boxes nor lie on each other.

    Args:
        boxes: By name.
        width: Of the drawing, in units.
    """

    def __init__(self, boxes: dict[str, Box], width: float) -> None:
        self._boxes = boxes
        self._columns = [round(STEP * i, 3) for i in range(round(width / STEP))]
        self._used: dict[int, set[float]] = defaultdict(set)  # by row: columns below it
        self._tracks: dict[int, list[tuple[float, float, int]]] = defaultdict(list)

    def routes(self, pairs: list[tuple[str, str]]) -> dict[tuple[str, str], Route]:
        """Arrows from upper to lower boxes; short ones come first to the best place."""
        return {pair: self._route(*pair) for pair in sorted(pairs, key=self._length)}

    def _length(self, pair: tuple[str, str]) -> tuple[float, ...]:
        upper, lower = (self._boxes[name] for name in pair)
        aside = max(upper.left - lower.right, lower.left - upper.right, 0)
        return (aside > 0, lower.row - upper.row, aside, upper.row, upper.left, lower.left)

    def _route(self, above: str, below: str) -> Route:
        upper, lower = self._boxes[above], self._boxes[below]
        if upper.row >= lower.row:
            raise ValueError(f"{above} imports {below}, but is not drawn above it")
        middle = (max(upper.left, lower.left) + min(upper.right, lower.right)) / 2

        def cost(x: float) -> tuple[float, float]:
            return round(abs(upper.reach(x) - x) + abs(lower.reach(x) - x), 3), round(abs(x - middle), 3)

        column = min((x for x in self._columns if self._free(x, upper.row, lower.row)), key=cost)
        start = self._stub(upper, column, upper.row)
        end = self._stub(lower, column, lower.row - 1)
        for row in range(upper.row, lower.row):
            self._used[row].add(column)
        first, second = self._track(upper.row, start, column), self._track(lower.row - 1, column, end)
        return Route(start, column, end, (first, second))

    def _free(self, x: float, first: int, last: int) -> bool:
        boxes = (box for box in self._boxes.values() if first < box.row < last)
        return self._apart(x, range(first, last)) and not any(
            box.left - MARGIN < x < box.right + MARGIN for box in boxes
        )

    def _apart(self, x: float, rows: range) -> bool:
        return all(abs(x - used) >= APART for row in rows for used in self._used[row])

    def _stub(self, box: Box, column: float, row: int) -> float:
        """Where an arrow joins a box, off the others that are there."""
        if box.reach(column) == column:
            return column
        places = [x for x in self._columns if box.left + MARGIN <= x <= box.right - MARGIN]
        free = [x for x in places if self._apart(x, range(row, row + 1))] or places
        place = min(free, key=lambda x: abs(x - column))
        self._used[row].add(place)
        return place

    def _track(self, row: int, start: float, end: float) -> int:
        low, high = min(start, end), max(start, end)
        if low == high:
            return 0
        taken = {track for left, right, track in self._tracks[row] if left <= high and low <= right}
        track = next(number for number in range(1 + len(taken)) if number not in taken)
        self._tracks[row].append((low, high, track))
        return track
