"""What the fault tests report: a line for each fault, in a table at the end of the run."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from .ledger import VIOLATIONS, Ledger

PROPERTY = "fault report"
HEADINGS = (
    "fault",
    "database",
    "rounds",
    "acknowledged",
    *VIOLATIONS[:3],
    "other",
    "recovered in (s)",
    "errors that callers saw",
)


@dataclass
class Report:
    """What a fault did.

    Attributes:
        rounds: How often there was the fault.
        acknowledged: How many calls were acknowledged.
        violations: What was found wrong, by kind.
        recovery: Seconds from the end of each fault to the first acknowledged call.
        errors: What callers saw.
    """

    fault: str
    database: str
    rounds: int = 0
    acknowledged: int = 0
    violations: Counter[str] = field(default_factory=Counter)
    recovery: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    details: list[str] = field(default_factory=list)

    def add(self, ledger: Ledger) -> None:
        """Take over what a ledger has found."""
        self.acknowledged += ledger.acknowledged
        self.violations += ledger.violations
        self.errors += ledger.errors
        self.details += ledger.details

    def check(self) -> None:
        """Fail if anything was lost, torn or there that should not be, or if nothing was done."""
        assert self.acknowledged > 0
        assert not self.violations, "\n".join(self.details[:20])

    def cells(self) -> list[str]:
        """The report as a line of the table."""
        known = [str(self.violations[kind]) for kind in VIOLATIONS[:3]]
        other = sum(self.violations[kind] for kind in VIOLATIONS[3:])
        recovery = f"{_median(self.recovery):.2f}, at most {max(self.recovery):.2f}" if self.recovery else ""
        errors = ", ".join(f"{name} {number:,}" for name, number in self.errors.most_common()) or "none"
        counts = [f"{self.rounds:,}", f"{self.acknowledged:,}", *known, str(other)]
        return [self.fault, self.database, *counts, recovery, errors]


def table(reports: list[Report]) -> str:
    """Reports as a table in Markdown."""
    rows = [list(HEADINGS), ["---"] * len(HEADINGS), *(report.cells() for report in reports)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


@pytest.fixture
def reports(request: pytest.FixtureRequest, record_property: Any) -> Any:
    """Makes a report: ``reports(fault, database)``."""
    made: list[Report] = []

    def make(fault: str, database: str) -> Report:
        made.append(Report(fault, database))
        return made[-1]

    yield make
    for report in made:
        record_property(PROPERTY, json.dumps(vars(report)))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    found = [
        Report(**{**told, "violations": Counter(told["violations"]), "errors": Counter(told["errors"])})
        for outcomes in terminalreporter.stats.values()
        for outcome in outcomes
        for name, value in getattr(outcome, "user_properties", ())
        if name == PROPERTY and getattr(outcome, "when", None) == "teardown"
        for told in [json.loads(value)]
    ]
    if found:
        terminalreporter.section("faults")
        terminalreporter.write_line(table(found))
