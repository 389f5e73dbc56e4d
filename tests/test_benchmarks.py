"""The benchmarks run: on SQLite, tiny. How fast they are is nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the benchmarks need the extra bench")


def test_benchmarks_run_on_sqlite(tmp_path: Path) -> None:
    names = ("throughput", "cache", "streaming", "memory", "coherence", "growth")
    only = [argument for name in names for argument in ("--only", name)]
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--server", "sqlite"]
    subprocess.run([*command, *only, "--output", tmp_path], check=True, timeout=100)

    results = json.loads((tmp_path / "results.json").read_text())
    assert set(names) <= set(results)
    rates = [sample["rate"] for cell in results["throughput"]["cells"] for sample in cell["rounds"]]
    assert rates
    assert min(rates) > 0
    report = (tmp_path / "results.md").read_text()
    for text in (
        "raw aiosqlite FULL",
        "streaming 4 MiB, write",
        "peak memory",
        "read p50 at 2,000",
        "purge of",
        "writes, SQLite",
    ):
        assert text in report


def test_a_server_that_is_not_there_is_skipped_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQLSESSIONS_TEST_POSTGRESQL", "postgresql://postgres@127.0.0.1:1/postgres")
    command = [sys.executable, "-m", "benchmarks", "--quick", "--rounds", "1", "--server", "postgresql"]
    subprocess.run([*command, "--only", "throughput", "--output", tmp_path], check=True, timeout=100)

    report = (tmp_path / "results.md").read_text()
    assert "| sqlsessions, PostgreSQL | no postgresql server at " in report
