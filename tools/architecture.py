"""Draws the rooms of the package and their imports: ``python -m tools.architecture [--check]``.

Writes ``docs/architecture.svg``, and the table of rooms in ``docs/architecture.md``. Where each room is drawn
stands here; which arrows there are comes from the code. An arrow says "imports". What follows from other arrows is left out: if A imports B and B imports C, there
is no arrow from A to C.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path

from .imports import Imports
from .layers import OUTSIDE, PACKAGE, rooms
from .routes import Box, Route, Router

ROOT = Path(__file__).parent.parent
DRAWING = ROOT / "docs" / "architecture.svg"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms -->\n", "<!-- end of rooms -->"

UNIT, HEIGHT, PITCH, TOP, TRACK = 100, 46, 86, 96, 7  # pixels
WIDTH = 12.9  # units


@dataclass(frozen=True)
class Panel:
    """What is drawn together.

    Attributes:
        title: Shown above.
        rows: The first and the last.
        left: Where it begins, in units.
        right: Where it ends.
        rooms: Each with its row, where it begins and ends, and what it is.
    """

    title: str
    rows: tuple[int, int]
    left: float
    right: float
    rooms: dict[str, tuple[int, float, float, str]]


PANELS = {
    "rim": Panel(
        "Command line and maintenance",
        (0, 3),
        0.3,
        8.7,
        {
            "cli": (0, 0.6, 7.6, "the command sqlsessions"),
            "_commands": (1, 0.6, 7.6, "what its subcommands do"),
            "moving": (2, 4.6, 6.4, "from other libraries"),
            "schema": (3, 0.6, 2.3, "upgrade, current, check"),
            "archive": (3, 4.6, 6.4, "export and import"),
        },
    ),
    "sql": Panel(
        "sql",
        (4, 14),
        0.3,
        8.7,
        {
            "sql.internals": (4, 0.6, 2.2, "for archive, telemetry"),
            "sql.diagnosis": (4, 2.5, 4.0, "doctor, statistics"),
            "sql.storage": (5, 4.3, 8.4, "SqlSessionStorage: arguments, contract, events"),
            "sql.writing": (6, 6.6, 8.4, "of data, small or large"),
            "sql.joining": (6, 2.8, 4.4, "callers' transactions"),
            "sql.accepted": (6, 4.6, 6.4, "sessions under other keys"),
            "sql.ending": (8, 3.7, 5.5, "of one, or a subject's"),
            "sql.repository": (7, 5.7, 7.6, "one method per operation"),
            "sql.bus": (9, 0.6, 2.0, "notices of changes"),
            "sql.purge_lease": (9, 2.2, 3.5, "who may purge"),
            "sql.purge": (9, 3.7, 5.5, "what a purge deletes"),
            "sql.replica": (9, 5.9, 7.1, "reads elsewhere"),
            "sql.staging": (9, 7.3, 8.4, "large blobs"),
            "sql.keeping": (10, 3.7, 5.5, "records of ends"),
            "sql.drivers": (10, 5.7, 7.6, "one each, or core"),
            "sql.batching": (11, 5.7, 8.4, "operations sent as one batch"),
            "sql.statements": (12, 3.7, 7.8, "single, transactions, chunks, in doubt"),
            "sql.engine": (13, 0.6, 6.2, "an engine per event loop, pool, retries, URLs"),
            "sql.models": (14, 1.8, 3.3, "the tables"),
            "sql.dialects": (14, 3.6, 5.2, "one per database"),
        },
    ),
    "web": Panel(
        "Frameworks",
        (0, 0),
        8.9,
        12.6,
        {"integrations": (0, 9.1, 12.4, "one module per framework, and _web, which they share")},
    ),
    "light": Panel(
        "Without SQL",
        (10, 10),
        9.0,
        12.6,
        {
            "cache": (10, 9.2, 10.2, "CacheStorage"),
            "layers": (10, 10.3, 11.2, "for data"),
            "memory": (10, 11.3, 12.5, "sessions in memory"),
        },
    ),
    "core": Panel(
        "What all of them build on",
        (15, 20),
        0.3,
        12.6,
        {
            "_versions": (15, 6.5, 7.9, "versions that rise"),
            "delegating": (16, 3.4, 6.2, "DelegatingStorage: the base of layers"),
            "records": (16, 6.5, 10.4, "Record, Lifetime, Options, digest"),
            "events": (16, 10.8, 12.4, "hooks, security log"),
            "storage": (17, 5.2, 9.9, "SessionStorage, ManagedSessionStorage: the contract"),
            "purging": (18, 5.2, 6.5, "rounds of purges"),
            "channels": (18, 6.7, 8.1, "streams of bytes"),
            "_validation": (19, 5.2, 9.9, "checked arguments"),
            "_digests": (18, 8.4, 10.3, "of ids, by namespace"),
            "ended": (18, 10.5, 12.4, "KeepsEnded"),
            "_keys": (19, 10.4, 12.4, "checked secret keys"),
            "_tasks": (20, 0.6, 2.6, "finish, though cancelled"),
            "values": (19, 2.8, 4.8, "DEFAULT, KEEP, durations"),
            "touching": (20, 2.8, 4.8, "what is worth a write"),
            "errors": (20, 5.0, 9.3, "every error, below SessionError"),
            "info": (20, 9.6, 12.4, "SessionInfo, Snapshot"),
        },
    ),
}
BESIDE = {
    "testing": (13, 9.4, 12.2, "StorageContract, for any storage"),
    "migrations": (12, 9.4, 12.2, "the revisions of the tables"),
}
"""What is in no layer, since nothing imports it."""

STYLE = """
svg { --page: #ffffff; --panel: #f6f8fa; --rule: #d0d7de; --text: #1f2328; --soft: #59636e;
  --rim: #8250df; --sql: #0969da; --web: #bc4c00; --light: #1a7f37; --core: #57606a;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
@media (prefers-color-scheme: dark) {
  svg { --page: #0d1117; --panel: #161b22; --rule: #30363d; --text: #e6edf3; --soft: #9198a1;
    --rim: #ab7df8; --sql: #4493f8; --web: #f0883e; --light: #3fb950; --core: #8b949e; } }
.page { fill: var(--page); } .panel { fill: var(--panel); stroke: var(--rule); }
.title { fill: var(--soft); font-size: 13px; font-weight: 600; }
.head { fill: var(--text); font-size: 20px; font-weight: 600; }
.note { fill: var(--soft); font-size: 13px; }
.box rect { fill: var(--page); stroke: var(--color); stroke-width: 1.5; }
.box .name { fill: var(--text); font-size: 13px; font-weight: 600;
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.box .what { fill: var(--soft); font-size: 11px; }
.beside rect { stroke: var(--rule); stroke-dasharray: 4 3; }
.arrow { fill: none; stroke: var(--color); stroke-width: 1.4; opacity: 0.85; } .tip { fill: var(--color); opacity: 0.85; }
""" + "".join(f".{kind} {{ --color: var(--{kind}); }}\n" for kind in PANELS)


def reduced(pairs: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs without those that follow from others."""
    below: dict[str, set[str]] = {}
    for upper, lower in pairs:
        below.setdefault(upper, set()).add(lower)

    def reach(name: str) -> set[str]:
        found: set[str] = set()
        ahead = list(below.get(name, ()))
        while ahead:
            if (one := ahead.pop()) not in found:
                found.add(one)
                ahead += below.get(one, ())
        return found

    return sorted(
        (upper, lower)
        for upper, lower in pairs
        if not any(lower in reach(other) for other in below[upper] - {lower})
    )


def arrows() -> list[tuple[str, str]]:
    """The imports between rooms that do not follow from others, by their names within the package."""
    return reduced(
        {
            (upper.removeprefix(f"{PACKAGE}."), lower.removeprefix(f"{PACKAGE}."))
            for upper, lower in Imports().between_rooms()
        }
    )


def table() -> str:
    """The rooms, in Markdown: what each is, and its nearest imports."""
    lines = ["| Room | What it is | Imports |", "|---|---|---|"]
    for layer in rooms():
        for room in (name.removeprefix(f"{PACKAGE}.") for name in layer):
            what = next(panel.rooms[room][3] for panel in PANELS.values() if room in panel.rooms)
            imported = ", ".join(f"`{lower}`" for upper, lower in arrows() if upper == room)
            lines.append(f"| `{room}` | {what} | {imported} |")
    return "\n".join(lines) + "\n"


def drawing() -> str:
    """The drawing, as SVG."""
    placed = {name: place for panel in PANELS.values() for name, place in panel.rooms.items()}
    known = {room.removeprefix(f"{PACKAGE}.") for layer in rooms() for room in layer}
    if known != set(placed):
        raise ValueError(f"to be placed in the drawing, or taken from it: {sorted(known ^ set(placed))}")
    kinds = {name: kind for kind, panel in PANELS.items() for name in panel.rooms}
    boxes = {name: Box(*place[:3]) for name, place in (placed | BESIDE).items()}
    routes = Router(boxes, WIDTH).routes(arrows())
    last = max(box.row for box in boxes.values())
    height = _y(last) + HEIGHT + 40
    size = f"{WIDTH * UNIT:.0f} {height}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img" aria-labelledby="title">',
        f'<title id="title">The rooms of {PACKAGE} and what they import</title>',
        f"<style>{STYLE}</style>",
        f'<rect class="page" width="{WIDTH * UNIT:.0f}" height="{height}" rx="8"/>',
        _text(30, 36, "head", PACKAGE),
        _text(140 + 30, 36, "note", "An arrow: imports. What follows from other arrows is left out."),
        *(_panel(panel) for panel in PANELS.values()),
        *(
            _arrow(kinds[pair[0]], boxes[pair[0]], boxes[pair[1]], route)
            for pair, route in sorted(routes.items())
        ),
        *(_box(name, kinds[name], placed[name]) for name in sorted(placed)),
        *(_box(name, "beside", BESIDE[name]) for name in OUTSIDE),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _y(row: int) -> int:
    return TOP + row * PITCH + sum(row >= panel.rows[0] > 0 for panel in (PANELS["sql"], PANELS["core"])) * 30


def _panel(panel: Panel) -> str:
    top, bottom = _y(panel.rows[0]) - 34, _y(panel.rows[1]) + HEIGHT + 20
    left, width = panel.left * UNIT, (panel.right - panel.left) * UNIT
    return (
        f'<rect class="panel" x="{left:g}" y="{top}" width="{width:g}" height="{bottom - top}" rx="10"/>'
        + _text(left + 14, top + 20, "title", panel.title)
    )


def _box(name: str, kind: str, place: tuple[int, float, float, str]) -> str:
    row, left, right, what = place
    x, y, width = left * UNIT, _y(row), (right - left) * UNIT
    middle = x + width / 2
    return (
        f'<g class="box {kind}"><rect x="{x:g}" y="{y}" width="{width:g}" height="{HEIGHT}" rx="6"/>'
        f"{_text(middle, y + 20, 'name', name, middle=True)}{_text(middle, y + 36, 'what', what, middle=True)}</g>"
    )


def _arrow(kind: str, upper: Box, lower: Box, route: Route) -> str:
    start, end = _y(upper.row) + HEIGHT, _y(lower.row)
    first = start + 8 + route.tracks[0] * TRACK
    second = end - 14 - route.tracks[1] * TRACK
    x = [place * UNIT for place in (route.start, route.column, route.end)]
    path = f"M{x[0]:g} {start}"
    if x[0] != x[1]:
        path += f"V{first}H{x[1]:g}"
    if x[1] != x[2]:
        path += f"V{second}H{x[2]:g}"
    tip = f"M{x[2]:g} {end}l-4 -8h8z"
    return f'<g class="{kind}"><path class="arrow" d="{path}V{end - 7}"/><path class="tip" d="{tip}"/></g>'


def _text(x: float, y: float, kind: str, text: str, *, middle: bool = False) -> str:
    anchor = ' text-anchor="middle"' if middle else ""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}"{anchor}>{escape(text)}</text>'


def main() -> int:
    """Draw, or look whether what is drawn is true."""
    parser = argparse.ArgumentParser(prog="python -m tools.architecture", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if it would change")
    check = parser.parse_args().check
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    made = {DRAWING: drawing(), PAGE: f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"}
    stale = [file for file, text in made.items() if not file.exists() or file.read_text() != text]
    for file in stale:
        if check:
            sys.stderr.write(f"{file.relative_to(ROOT)} is out of date: run python -m tools.architecture\n")
        else:
            file.write_text(made[file])
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
