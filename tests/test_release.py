"""What is checked before a release, and before a commit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.release import problems

ROOT = Path(__file__).parent.parent
GOOD = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2027-03-01\n\n- An entry.\n\n## [1.1.0] - 2027-01-01\n"


def test_what_is_ready_has_no_problems() -> None:
    assert problems("1.2.0", GOOD, "", ["v1.1.0"]) == []


@pytest.mark.parametrize(
    ("version", "changelog", "uncommitted", "tags", "said"),
    [
        ("1.3.0", GOOD, "", [], r"no heading `## \[1.3.0\] - date`"),
        ("1.2.0", GOOD.replace(" - 2027-03-01", ""), "", [], "no heading"),
        ("1.2.0", GOOD.replace("## [1.2.0]", "- More.\n\n## [1.2.0]"), "", [], "entries under Unreleased"),
        ("1.2.0", GOOD.replace("## [Unreleased]\n", ""), "", [], "does not begin with Unreleased"),
        ("1.2.0", GOOD, " M README.md\n", [], "not committed"),
        ("1.2.0", GOOD, "", ["v1.2.0"], "a tag v1.2.0 already"),
    ],
)
def test_what_is_not_ready_is_named(
    version: str, changelog: str, uncommitted: str, tags: list[str], said: str
) -> None:
    (found,) = problems(version, changelog, uncommitted, tags)
    assert re.search(said, found)


def test_a_commit_is_checked_by_make_lint_and_fetches_nothing() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    assert re.findall(r"repo: (.*)", hooks) == ["local"]
    assert re.findall(r"entry: (.*)", hooks) == ["make lint"]
