"""The HTML of `AdminPage`. All that comes from outside is escaped; there is no script, and one style."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from datetime import datetime
from html import escape
from typing import NamedTuple

from ..info import SessionInfo
from ..purging import PurgeStatistics
from ..sql.diagnosis.humanize import away, counted, moment, size
from ..sql.diagnosis.statistics import Statistics
from ._admin_finding import Found

SHOWN_DIGITS = 12  # of a key, in a list
BAR, ROW, LABEL, GAP = 240, 26, 190, 8  # of a plot, in its own units
LONGEST_LABEL = 20  # characters

STYLE = """
:root { color-scheme: light dark; --text: #1f2328; --soft: #59636e; --page: #fff; --rule: #d0d7de;
  --accent: #0969da; --danger: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9198a1; --page: #0d1117;
  --rule: #3d444d; --accent: #4493f8; --danger: #ff8078; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
form.search { display: flex; gap: .5rem; flex-wrap: wrap; align-items: end; }
label { flex: 1 1 14rem; } input { display: block; width: 100%; }
input, button { font: inherit; color: inherit; background: var(--page); padding: .4rem .7rem;
  border: 1px solid var(--rule); border-radius: .4rem; min-height: 2.75rem; }
button { cursor: pointer; } button.end { color: var(--danger); border-color: currentColor; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
ul.sessions { list-style: none; padding: 0; }
ul.sessions li { display: flex; flex-wrap: wrap; gap: .25rem 1rem; justify-content: space-between;
  align-items: center; border-top: 1px solid var(--rule); padding: .6rem 0; overflow-wrap: anywhere; }
.soft { color: var(--soft); } .note { border-left: 4px solid var(--accent); padding-left: .75rem; }
summary { cursor: pointer; padding: .5rem 0; color: var(--danger); }
a { color: var(--accent); } svg { max-width: 100%; height: auto; } svg text { fill: var(--text); font-size: 13px; }
svg rect { fill: var(--accent); }
"""
_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
CSP = (
    f"default-src 'none'; style-src 'sha256-{_HASH}'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)


class Purge(NamedTuple):
    """The state of the purge.

    Attributes:
        running: Whether a process of the database purges now.
        here: What this process has done; None if that is not known.
    """

    running: bool
    here: PurgeStatistics | None


def document(
    title: str,
    query: str,
    found: Found | None,
    statistics: Statistics | None,
    *,
    purge: Purge | None = None,
    ended: int | None = None,
    countable: bool = False,
    search: bool = True,
) -> str:
    """The page.

    Args:
        title: The heading.
        query: What was searched for.
        found: What that found; None if nothing was searched for.
        statistics: The statistics of the tables; None if they are not to be shown.
        purge: The state of the purge, to be shown with them.
        countable: Whether to offer them.
        ended: How many sessions were just ended; None if none was to be.
        search: Whether there is a search.
    """
    parts = [f"<h1>{escape(title)}</h1>"]
    if ended is not None:
        parts.append(f'<p class="note" role="status">Ended {counted(ended, "session")}.</p>')
    if search:
        parts.append(_search(query))
    if found is not None:
        parts += _found(query, found)
    if statistics is not None:
        parts += _statistics(statistics)
        if purge is not None:
            parts += _purge(purge)
    elif countable:
        parts.append('<p><a href="?statistics">Statistics</a></p>')
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>"
    )


def _search(query: str) -> str:
    return (
        '<form class="search" method="get" action="?" role="search"><label>Subject, or key of a session'
        f'<input type="search" name="q" value="{escape(query)}" autocomplete="off"></label>'
        "<button>Search</button></form>"
    )


def _found(query: str, found: Found) -> Iterable[str]:
    if found.by_key:
        yield f"<h2>By key</h2>{_sessions(query, found.by_key)}"
    yield f"<h2>Sessions of {escape(query)}</h2>"
    if not found.of_subject:
        yield '<p class="soft">There are none.</p>'
        return
    if found.more:
        yield f'<p class="soft">These are the newest {len(found.of_subject)}.</p>'
    yield _sessions(query, found.of_subject)
    yield (
        "<details><summary>End all of them …</summary>"
        f"{_form(query, 'subject', query, f'End all sessions of {query}')}</details>"
    )


def _sessions(query: str, infos: list[SessionInfo]) -> str:
    return f'<ul class="sessions">{"".join(_session(query, info) for info in infos)}</ul>'


def _session(query: str, info: SessionInfo) -> str:
    subject = "no subject" if info.subject is None else info.subject
    key = info.key[:SHOWN_DIGITS]
    used = "" if info.used_at is None else f"used {_time(info.used_at)}, "
    named = "".join(
        f"<br>{escape(', '.join(texts))}" for texts in (info.labels, (info.client or {}).values()) if texts
    )
    return (
        f'<li><span><code title="{info.key}">{key}</code> {escape(subject)}<br><span class="soft">'
        f"began {_time(info.created_at)}, written {_time(info.updated_at)}, {used}expires {_time(info.expires_at)}, "
        f"{size(info.size)}{named}</span></span>{_form(query, 'key', info.key, 'End', f'End session {key}')}</li>"
    )


def _time(time: datetime | None) -> str:
    return f'<time title="{moment(time)}">{away(time)}</time>'


def _form(query: str, name: str, value: str, text: str, label: str | None = None) -> str:
    described = "" if label is None else f' aria-label="{escape(label)}"'
    return (
        f'<form method="post" action="?"><input type="hidden" name="{name}" value="{escape(value)}">'
        f'<input type="hidden" name="q" value="{escape(query)}">'
        f'<button class="end"{described}>{escape(text)}</button></form>'
    )


def _statistics(found: Statistics) -> Iterable[str]:
    totals, orphans = found.totals, found.orphans
    yield "<h2>All sessions</h2>"
    rows = [("live", totals.live), ("expired, not purged", totals.expired)]
    if orphans.overdue:
        rows.append(("chunks without one", orphans.overdue_chunks))
    yield _plot("Live and expired sessions", rows)
    yield f'<p class="soft">{size(totals.bytes)} of live data'
    if totals.expired_since is not None:
        yield f"; the longest expired of those not purged, {away(totals.expired_since)}"
    yield ".</p>"
    if totals.live:
        above, sizes = 0, []
        for each in totals.sizes:
            name = f"above {size(above)}" if each.up_to is None else f"up to {size(each.up_to)}"
            sizes.append((name, each.sessions))
            above = each.up_to or above
        yield f"<h2>By size</h2>{_plot('Live sessions by size', sizes)}"
    if found.top_subjects:
        rows = [(each.subject, each.sessions) for each in found.top_subjects]
        yield f"<h2>Subjects with the most</h2>{_plot('Subjects with the most sessions', rows)}"


def _purge(purge: Purge) -> Iterable[str]:
    now = "A process is purging now" if purge.running else "No process is purging now"
    yield f'<h2>Purge</h2><p class="soft">{now}; of several, one at a time does.</p>'
    if (here := purge.here) is not None:
        rows = [("rounds", here.rounds), ("left to others", here.skipped), ("failed", here.failures)]
        yield _plot("Rounds of this process", rows)
        purged = f"{counted(here.purged.sessions, 'session')} and {counted(here.purged.chunks, 'chunk')}"
        yield f'<p class="soft">This process has purged {purged}.</p>'


def _plot(title: str, rows: list[tuple[str, int]]) -> str:
    """Bars, as SVG, with their numbers as text."""
    most = max(number for _, number in rows) or 1
    width, height = LABEL + BAR + 80, ROW * len(rows)
    bars = []
    for at, (name, number) in enumerate(rows):
        y, length = at * ROW, max(round(BAR * number / most), 1 if number else 0)
        shown = name if len(name) <= LONGEST_LABEL else f"{name[: LONGEST_LABEL - 1]}…"
        bars.append(
            f'<text x="{LABEL - GAP}" y="{y + 17}" text-anchor="end">{escape(shown)}</text>'
            f'<rect x="{LABEL}" y="{y + 4}" width="{length}" height="{ROW - 8}" rx="2"/>'
            f'<text x="{LABEL + length + GAP}" y="{y + 17}">{number:,}</text>'
        )
    described = ", ".join(f"{name}: {number:,}" for name, number in rows)
    return (
        f'<svg role="img" aria-label="{escape(f"{title}. {described}")}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}">{"".join(bars)}</svg>'
    )
