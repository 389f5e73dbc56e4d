"""Checks that the checked-out commit can be released: ``python -m tools.release``."""

from __future__ import annotations

import re
import subprocess
import sys

from .pythons import ROOT, project

HEADING = re.compile(r"^## \[(?P<name>[^\]]+)\](?: - (?P<date>\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)


def problems(version: str, changelog: str, uncommitted: str, tags: list[str]) -> list[str]:
    """What speaks against a release.

    Args:
        version: The version in pyproject.toml.
        changelog: The text of CHANGELOG.md.
        uncommitted: The output of ``git status --porcelain``.
        tags: The tags of the repository.
    """
    return [
        *_changelog_problems(version, changelog),
        *([f"there is a tag v{version} already"] if f"v{version}" in tags else []),
        *(["there are changes that are not committed"] if uncommitted.strip() else []),
    ]


def _changelog_problems(version: str, changelog: str) -> list[str]:
    headings = list(HEADING.finditer(changelog))
    if not headings or headings[0]["name"] != "Unreleased":
        return ["CHANGELOG.md does not begin with Unreleased"]
    if len(headings) == 1 or headings[1]["name"] != version or headings[1]["date"] is None:
        return [f"CHANGELOG.md has no heading `## [{version}] - date` below Unreleased"]
    if changelog[headings[0].end() : headings[1].start()].strip():
        return [f"CHANGELOG.md has entries under Unreleased: move them to {version}"]
    return []


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout  # noqa: S607


def main() -> None:
    """Name what is wrong, if anything is."""
    found = problems(
        project()["version"],
        (ROOT / "CHANGELOG.md").read_text(),
        _git("status", "--porcelain"),
        _git("tag", "--list").split(),
    )
    if found:
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()
