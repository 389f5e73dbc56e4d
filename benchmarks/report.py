"""Results as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Any

from .targets import Target, targets

Results = dict[str, Any]

ABOUT = """\
Everything ran on one machine, servers and clients together, on loopback; figures from other machines
do not compare with these. Sides of a comparison take turns, round after round; figures are medians over
the rounds, and a ratio is the median of each round's ratio. CPU seconds are those of the client's
process: the server's are not in them. "Redis" keeps nothing on disk, as a cache; "Redis always" answers once a
write is on disk (`appendfsync always`), as PostgreSQL, MariaDB, MySQL and SQLite at FULL do here."""

LIMITS = """\
What stands behind lines that were missed, as far as it is known:

- Where a table gives a load average above the number of processors, the machine had much else to do. Sides that
  consist of more processes wait more often for a processor then, and rates scatter widely. CPU seconds scatter less.
- MySQL has no `RETURNING`: there writes of sessions that the process has seen lately lock them first, and then write,
  which takes two round trips for several; on the other databases all writes that wait are one.
- At most two batches of writes are under way, however long a commit takes: with 1,024 callers 0.9, 1.4 and 1.7 of them
  on average where an fsync takes 0, 5 and 20 ms more.
- A single caller shares no statement with others.
- A compiled core was tried. With the modules that a read passes compiled by Cython, a read took 10 to 20 % more CPU than
  with CPython 3.11, and with six of them compiled by mypyc as much: the rest is asyncio, the driver and the server.
- psycopg's pipeline is one connection, which was the fastest next door. Its `sync`, without which nothing is committed,
  holds the connection until it is answered, so that writes come one after the other where the server is far away.
- A web request in which something is awaited costs more than what is done for it. Around a storage that answers at
  once, our sessions take as many calls of functions as cookies to read (133 and 142), and fewer to write (172 and 233).
  With 32 requests that wait, an app that has begun keeps 90 objects for each, which the garbage collector walks again
  and again: 10 to 20 % of the CPU of a read; `eager=True` has it wait before the app begins. And requests wait for each
  other's batch of 8 to 16, of which each is a round trip, on SQLite to a thread that shares the interpreter's lock. To
  serve 2.5 times as many writes as starsessions, a request would have to take no more CPU than 1.2 times one with a
  cookie, with a read and a commit in it."""


def markdown(results: Results) -> str:
    """The whole report."""
    parts = ["# Benchmarks", ABOUT, "## What was to be shown", must_show(targets(results)), LIMITS]
    for name, section in SECTIONS.items():
        if name in results:
            part = results[name]
            parts += section(part)
            if name not in ("throughput", "clients", "distances", "web"):  # which say so by table
                about = f"{part['rounds']} rounds, {part['measured']}"
                parts.append(f"({about}{', quick' if part['quick'] else ''})")
    skipped = {k: v for part in results.values() for k, v in part.get("skipped", {}).items()}
    if skipped:
        parts += ["## Skipped", table(["What", "Why"], skipped.items())]
    if "environment" in results:
        parts += ["## With", table(["What", "Version"], results["environment"].items())]
    return "\n\n".join(parts) + "\n"


def must_show(found: Sequence[Target]) -> str:
    """What the project set out to show, and what was measured."""
    head = ["", "Measured", "Least – most of a round", "Wanted", ""]  # noqa: RUF001
    return table(head, [target.cells() for target in found])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _throughput(results: Results) -> Iterator[str]:
    yield "## Throughput"
    yield from _cells(results)


def _clients(results: Results) -> Iterator[str]:
    yield "## Against clients and drivers by hand"
    yield from _cells(results)


def _cells(results: Results) -> Iterator[str]:
    groups: dict[tuple[str, int, int], dict[str, dict[str, Any]]] = {}
    for cell in results["cells"]:
        key = (cell["loop"], cell["callers"], cell["size"])
        groups.setdefault(key, {}).setdefault(cell["peer"], {})[cell["op"]] = cell["rounds"]
    for (loop, callers, size), peers in groups.items():
        yield f"### {callers} callers, {_bytes(size)}, {loop}"
        head = ["", *(f"{op} {what}" for op in ("read", "write") for what in FIGURES)]
        rows = [
            [peer, *(_figure(ops[op], key) for op in ("read", "write") for key in FIGURES.values())]
            for peer, ops in peers.items()
        ]
        yield table(head, rows)
        same = {"loop": loop, "callers": callers, "size": size}
        yield _taken([cell for cell in results["cells"] if same.items() <= cell.items()])


FIGURES = {"op/s": "rate", "p50 ms": "p50", "p99 ms": "p99", "CPU s / 10,000": "cpu"}


def _figure(rounds: list[dict[str, float]], key: str) -> str:
    value = median(sample[key] for sample in rounds)
    return f"{value:,.0f}" if key == "rate" else f"{value:.2f}"


def _distances(results: Results) -> Iterator[str]:
    yield "## Not next door"
    yield (
        "1 KiB, asyncio. A proxy puts the server 1 ms of round trip away; or each fsync takes longer, by strace, as on "
        "a disk that is slower or elsewhere. On SQLite it is the client's process whose fsync does. Each caller has "
        "sessions of its own. As a commit may have to wait for the one before, it takes up to twice as long."
    )
    groups: dict[str, dict[tuple[str, int], dict[str, Any]]] = {}
    for cell in results["cells"]:
        key = (cell["peer"], cell["callers"])
        groups.setdefault(cell["place"], {}).setdefault(key, {})[cell["op"]] = cell["rounds"]
    for place, peers in groups.items():
        yield f"### {place[0].upper()}{place[1:]}"
        ops = [op for op in ("read", "write") if any(op in found for found in peers.values())]
        head = ["", "callers", *(f"{op} {what}" for op in ops for what in FIGURES)]
        order = {peer: number for number, (peer, _) in enumerate(peers)}
        rows = [
            [peer, f"{callers:,}", *(_figure(found[op], key) for op in ops for key in FIGURES.values())]
            for (peer, callers), found in sorted(
                peers.items(), key=lambda item: (order[item[0][0]], item[0][1])
            )
        ]
        yield table(head, rows)
        yield _taken([cell for cell in results["cells"] if cell["place"] == place])


def _taken(cells: list[dict[str, Any]]) -> str:
    """How some cells were taken, and how busy the machine was before each."""
    days = ", ".join(sorted({cell["measured"] for cell in cells}))
    loads = [cell["load"] for cell in cells if "load" in cell]
    busy = f", load average {min(loads):.1f} to {max(loads):.1f}" if loads else ""
    return f"({len(cells[0]['rounds'])} rounds, {days}{busy})"


def _cache(results: Results) -> Iterator[str]:
    yield "## Cache hits"
    yield table(
        ["", "hits per second"], [[row["loop"], f"{median(row['rates']):,.0f}"] for row in results["hits"]]
    )


def _streaming(results: Results) -> Iterator[str]:
    yield "## Streaming, MB/s"
    yield (
        "By hand, a chunk is a statement that commits by itself, as with ours, which holds no transaction "
        "while a provider runs. One transaction around all chunks is shown beside it."
    )
    rows = [
        [
            f"{row['size']} MiB, {row['op']}, against {row['against']}",
            f"{median(row['ours']):.0f}",
            f"{median(row['raw']):.0f}",
            f"{median(row['raw_atomic']):.0f}" if "raw_atomic" in row else "",
        ]
        for row in results["rows"]
    ]
    yield table(["", "ours", "by hand", "by hand, one transaction"], rows)


def _web(results: Results) -> Iterator[str]:
    yield "## A Starlette app"
    yield (
        "Under uvicorn, one process, 32 connections by wrk, 200 sessions in turn; each request reads its own, or "
        "changes it. The CPU is that of the app's process alone. With `eager=True`, as the others always do, a session is "
        "read before the app is called; else when the app accesses it. Django's app is the same, as a Django project."
    )
    sides: dict[str, list[str]] = {}
    for row in results["rows"]:
        cpu = f"{median(row['cpu']):.2f}" if "cpu" in row else ""
        sides.setdefault(row["name"], []).extend((f"{median(row['rates']):,.0f}", cpu))
    head = ["", *(f"{op} {what}" for op in ("read", "write") for what in ("req/s", "CPU s / 10,000"))]
    yield table(head, [[name, *cells] for name, cells in sides.items()])
    for op in ("read", "write"):
        if found := [row | {"rounds": row["rates"]} for row in results["rows"] if row["op"] == op]:
            yield f"{op}s: {_taken(found)}"


def _memory(results: Results) -> Iterator[str]:
    yield "## Memory"
    yield "Growth of the peak resident size while all callers write at once, their tasks included."
    rows = [[row["server"], f"{row['callers']:,}", f"{row['growth']:.1f}"] for row in results["rows"]]
    yield table(["", "callers", "MiB beyond payloads"], rows)


def _postgres(results: Results) -> Iterator[str]:
    yield "## Storage cost on PostgreSQL"
    yield (
        f"{results['sessions']:,} sessions of {_bytes(results['size'])}, each changed twice by 64 callers at "
        "random. The first change of a page after a checkpoint logs an image of the page; the second pass "
        "shows the cost without."
    )
    rows = [
        [
            name,
            f"{cost['updates']:,}",
            f"{cost['hot']:.2%}",
            f"{cost['wal']:,.0f}",
            f"{cost['wal_images']:,.0f}",
        ]
        for name in ("touch", "rewrite")
        if (cost := results[name])
    ]
    yield table(["", "updates", "HOT", "WAL bytes each", "right after a checkpoint"], rows)


def _coherence(results: Results) -> Iterator[str]:
    yield "## Caches of several processes"
    yield (
        "Four processes hold a session, one ends it, the others ask for it all the time: milliseconds from the "
        "acknowledgement of the logout to the last answer that it is over. The bus of Redis is over PostgreSQL."
    )
    rows = [
        [row["bus"], "strict" if row["strict"] else "", f"{row['count']:,}"]
        + [f"{row[key]:.1f}" for key in ("p50", "p99", "most")]
        for row in results["logouts"]
    ]
    yield table(["", "", "logouts", "p50 ms", "p99 ms", "most"], rows)
    yield (
        "Writes of 64 callers while four processes attend to the bus, against one process without; hits in one "
        "process, one after the other; requests to a Starlette app with four workers, by 64 clients, with a cache "
        "in each worker against none."
    )
    named = (("writes", "writes"), ("hits", "hits"), ("app", "requests"))
    rows = [
        [f"{what}, {row['bus']}"]
        + [f"{median(row['rates'][side]):,.0f}" for side in ("on", "off")]
        + [f"{median(on / off for on, off in zip(row['rates']['on'], row['rates']['off'], strict=True)):.2f}"]
        for name, what in named
        for row in results[name]
    ]
    yield table(["per second", "with", "without", "ratio"], rows)


def _growth(results: Results) -> Iterator[str]:
    yield "## Growth"
    yield "64 callers, 200-byte sessions chosen at random; the sizes take turns."
    rows = [
        [row["server"], f"{row['sessions']:,}"]
        + [
            f"{row[op][key]:,.0f}" if key == "rate" else f"{row[op][key]:.2f}"
            for op in ("read", "write")
            for key in ("rate", "p50", "p99")
        ]
        for row in results["sizes"]
    ]
    head = [f"{op} {what}" for op in ("read", "write") for what in ("op/s", "p50 ms", "p99 ms")]
    yield table(["", "sessions", *head], rows)
    yield "Purge in the same process as the reads, which come from 16 callers that pause 5 ms in between."
    rows = [
        [row["server"], f"{row['expired']:,}", f"{row['rate']:,.0f}"]
        + [f"{row[when][key]:.2f}" for key in ("p50", "p99") for when in ("without", "during")]
        for row in results["purges"]
    ]
    head = ["p50 ms alone", "p50 ms during", "p99 ms alone", "p99 ms during"]
    yield table(["", "expired", "purged per second", *head], rows)


SECTIONS = {
    "throughput": _throughput,
    "clients": _clients,
    "distances": _distances,
    "cache": _cache,
    "streaming": _streaming,
    "web": _web,
    "memory": _memory,
    "postgres": _postgres,
    "coherence": _coherence,
    "growth": _growth,
}


def _bytes(size: int) -> str:
    return f"{size} B" if size < 1024 else f"{size // 1024} KiB"
