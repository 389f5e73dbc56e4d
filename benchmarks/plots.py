"""Results as bar charts, each in PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

Results = dict[str, Any]
Bars = dict[str, list[float]]

OURS, THEIRS = "#1f6f8b", "#b8bec4"
SHADES = ["#1f6f8b", "#d98e32", "#8a8f94", "#7d5ba6", "#5a9e6f"]
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "figure.constrained_layout.use": True,
    "svg.hashsalt": "sqlsessions",
}
NAMES = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}
COMPARED = (
    "sqlsessions, PostgreSQL",
    "raw asyncpg pool",
    "starsessions, Redis",
    "sqlsessions, SQLite FULL",
    "raw aiosqlite FULL",
)


def plot(results: Results, folder: Path) -> None:
    """Draw what there is."""
    plt.rcParams.update(STYLE)
    for name, (part, draw) in CHARTS.items():
        if part in results and (figure := draw(results[part])) is not None:
            for kind, extra in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
                figure.savefig(folder / f"{name}.{kind}", **extra)
            plt.close(figure)


def _peers(callers: int) -> Callable[[Results], Any]:
    def draw(results: Results) -> Any:
        sides = {op: _cells(results, op, callers=callers, size=1024) for op in ("read", "write")}
        if not sides["read"]:
            return None
        figure, axes = plt.subplots(1, 2, figsize=(11, 0.36 * len(sides["read"]) + 1.3), sharey=True)
        for axis, (op, rates) in zip(axes, sides.items(), strict=True):
            names = list(rates)[::-1]
            values = [rates[name] for name in names]
            colors = [OURS if name.startswith("sqlsessions") else THEIRS for name in names]
            axis.barh(names, values, color=colors)
            axis.margins(x=0.17)
            for place, value in enumerate(values):
                axis.text(value, place, f" {value:,.0f}", va="center", fontsize=9)
            axis.set_title(f"{op}s per second")
            axis.set_xticks([])
            axis.spines["bottom"].set_visible(False)
        who = "one caller" if callers == 1 else f"{callers} concurrent callers"
        figure.suptitle(f"1-KiB sessions, {who}, asyncio")
        return figure

    return draw


def _cells(results: Results, op: str, **wanted: Any) -> dict[str, float]:
    return {
        cell["peer"]: median(sample["rate"] for sample in cell["rounds"])
        for cell in results["cells"]
        if cell["op"] == op and cell["loop"] == "asyncio" and wanted.items() <= cell.items()
    }


def _along(
    key: str, fixed: dict[str, int], label: Callable[[int], str], title: str
) -> Callable[[Results], Any]:
    def draw(results: Results) -> Any:
        cells = [
            cell for cell in results["cells"] if cell["loop"] == "asyncio" and fixed.items() <= cell.items()
        ]
        places = sorted({cell[key] for cell in cells})
        names = [name for name in COMPARED if any(cell["peer"] == name for cell in cells)]
        if len(places) < 2 or not names:
            return None
        figure, axes = plt.subplots(2, 1, figsize=(9, 6.4), sharex=True)
        for axis, op in zip(axes, ("read", "write"), strict=True):
            found = [_cells(results, op, **fixed, **{key: place}) for place in places]
            _grouped(
                axis, [label(place) for place in places], {n: [f.get(n, 0.0) for f in found] for n in names}
            )
            axis.set_ylabel(f"{op}s per second")
        axes[0].set_title(title)
        axes[0].legend(frameon=False, fontsize=9, ncols=2)
        return figure

    return draw


def _grouped(axis: Axes, places: Sequence[str], bars: Bars, form: str = "{:,.0f}") -> None:
    width = 0.84 / len(bars)
    for number, (name, values) in enumerate(bars.items()):
        left = [place + (number - (len(bars) - 1) / 2) * width for place in range(len(places))]
        drawn = axis.bar(left, values, width * 0.92, label=name, color=SHADES[number])
        labels = [_short(value, form) for value in values]
        axis.bar_label(drawn, labels, padding=2, fontsize=8 if len(bars) < 4 else 7)
    axis.set_xticks(range(len(places)), places)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1000 else f"{value:g}")
    axis.margins(y=0.12)


def _short(value: float, form: str) -> str:
    return f"{value / 1000:.1f}k" if value >= 1000 else form.format(value)


def _cpu(results: Results) -> Any:
    cells = {
        (cell["peer"], cell["op"]): median(sample["cpu"] for sample in cell["rounds"])
        for cell in results["cells"]
        if cell["loop"] == "asyncio" and cell["callers"] == 64 and cell["size"] == 1024
    }
    names = [name for name in COMPARED if (name, "read") in cells]
    if not names:
        return None
    figure, axis = plt.subplots(figsize=(9, 3.6))
    bars = {f"10,000 {op}s": [cells[name, op] for name in names] for op in ("read", "write")}
    _grouped(axis, [name.replace(", ", ",\n") for name in names], bars, "{:.2f}")
    axis.set_ylabel("CPU seconds")
    axis.set_title("CPU time of the client's process (not the server's), 64 callers, 1 KiB")
    axis.legend(frameon=False)
    return figure


def _streaming(results: Results) -> Any:
    if not results["rows"]:
        return None
    figure, axis = plt.subplots(figsize=(7.5, 3.6))
    places = [f"{row['op']},\n{NAMES[row['server']]}" for row in results["rows"]]
    bars = {
        name: [median(row[key]) for row in results["rows"]]
        for name, key in (("sqlsessions", "ours"), ("raw driver, same chunks", "raw"))
    }
    _grouped(axis, places, bars)
    axis.set_ylabel("MB/s")
    axis.set_title(f"Streaming {results['rows'][0]['size']} MiB in chunks of 256 KiB")
    axis.legend(frameon=False)
    return figure


def _web(results: Results) -> Any:
    if not results["rows"]:
        return None
    figure, axis = plt.subplots(figsize=(7.5, 2.6))
    rows = [row for row in results["rows"] if row["op"] == "read"][::-1]
    names = [row["name"] for row in rows]
    values = [median(row["rates"]) for row in rows]
    axis.barh(names, values, color=[OURS if name.startswith("sqlsessions") else THEIRS for name in names])
    axis.margins(x=0.12)
    for place, value in enumerate(values):
        axis.text(value, place, f" {value:,.0f}", va="center", fontsize=9)
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)
    axis.set_title("A Starlette app that reads its session: requests per second")
    return figure


def _growth(results: Results) -> Any:
    if not results["sizes"]:
        return None
    figure, axis = plt.subplots(figsize=(7.5, 3.6))
    places = [f"{row['sessions']:,}\n{NAMES[row['server']]}" for row in results["sizes"]]
    bars = {op: [row[op]["p50"] for row in results["sizes"]] for op in ("read", "write")}
    _grouped(axis, places, bars, "{:.2f}")
    axis.set_ylabel("p50, milliseconds")
    axis.set_title("Cost by number of sessions: 64 callers, 200 B")
    axis.legend(frameon=False)
    return figure


def _purge(results: Results) -> Any:
    if not results["purges"]:
        return None
    figure, axis = plt.subplots(figsize=(7.5, 3.6))
    places = [f"{key}, {NAMES[row['server']]}" for row in results["purges"] for key in ("p50", "p99")]
    bars = {
        name: [row[when][key] for row in results["purges"] for key in ("p50", "p99")]
        for name, when in (("reads alone", "without"), ("during the purge", "during"))
    }
    _grouped(axis, places, bars, "{:.2f}")
    axis.set_ylabel("milliseconds")
    axis.set_title(f"Reads while {results['purges'][0]['expired']:,} expired sessions are purged")
    axis.legend(frameon=False)
    return figure


def _kib(size: int) -> str:
    return f"{size} B" if size < 1024 else f"{size // 1024} KiB"


CHARTS: dict[str, tuple[str, Callable[[Results], Any]]] = {
    "throughput-64-callers": ("throughput", _peers(64)),
    "throughput-1-caller": ("throughput", _peers(1)),
    "throughput-by-callers": (
        "throughput",
        _along("callers", {"size": 1024}, lambda n: f"{n} callers", "1-KiB sessions by callers, asyncio"),
    ),
    "throughput-by-size": (
        "throughput",
        _along("size", {"callers": 64}, _kib, "64 callers by size of the session, asyncio"),
    ),
    "cpu": ("throughput", _cpu),
    "streaming": ("streaming", _streaming),
    "web": ("web", _web),
    "growth": ("growth", _growth),
    "purge": ("growth", _purge),
}
