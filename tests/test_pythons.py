"""The supported Pythons and dependencies: what is declared is what CI runs."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from tools.lowest import lowest, requirements
from tools.pythons import interpreters, main, supported

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HERE = "{}.{}".format(*sys.version_info)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for commands, the only one on PATH, on a machine without a pyenv."""
    commands = tmp_path / "commands"
    commands.mkdir()
    monkeypatch.setenv("PATH", str(commands))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setattr(sys, "argv", ["tools.pythons"])
    return commands


def python(path: Path, version: str) -> Path:
    """A command that answers as a Python of a version does; of none, as a pyenv's for one that is off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\n" if version else "#!/bin/sh\nexit 127\n")
    path.chmod(0o755)
    return path


def test_the_classifiers_begin_with_the_required_python_and_leave_none_out() -> None:
    numbers = [int(version.removeprefix("3.")) for version in supported()]
    assert PROJECT["project"]["requires-python"] == f">=3.{numbers[0]}"
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py3{numbers[0]}"


def test_these_tests_run_on_a_python_that_is_declared() -> None:
    assert HERE in supported()


def test_ci_runs_every_python_and_the_bounds_of_the_dependencies() -> None:
    """`.ci/run` runs `make ci`, which asks `tools.pythons` for the Pythons."""
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("\nmake ci")
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^ci: check pythons lowest newest\b", makefile, re.MULTILINE)
    assert re.search(r"^pythons:.*\n.*python -m tools\.pythons\)", makefile, re.MULTILINE)
    assert re.search(r"^lowest:.*\n.*python -m tools\.lowest >", makefile, re.MULTILINE)


def test_interpreters_are_found_by_name_and_in_a_pyenv(empty: Path) -> None:
    first, *_, last = supported()
    python(empty / f"python{first}", "")  # a pyenv's command, of a version that is off
    pyenv = empty.parent / "pyenv" / "versions"
    for patch in ("9", "10"):
        python(pyenv / f"{first}.{patch}" / "bin" / f"python{first}", first)
    on_path = python(empty / f"python{last}", last)
    python(pyenv / f"{last}.1" / "bin" / f"python{last}", last)
    assert interpreters() == {first: pyenv / f"{first}.10" / "bin" / f"python{first}", last: on_path}


def test_a_command_of_another_version_is_none_of_ours(empty: Path) -> None:
    python(empty / f"python{supported()[0]}", "2.7")
    assert interpreters() == {}
    with pytest.raises(SystemExit, match="there is none of the Pythons"):
        main()


def test_two_pythons_are_too_few_for_ci(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SQLSESSIONS_REQUIRE_SERVICES", "1")
    versions = supported()[:3]
    paths = [empty / f"python{version}" for version in versions]
    for path, version in zip(paths[:2], versions[:2], strict=True):
        python(path, version)
    with pytest.raises(SystemExit, match="3 of the Pythons"):
        main()
    monkeypatch.setenv("SQLSESSIONS_REQUIRE_SERVICES", "0")
    main()
    monkeypatch.setenv("SQLSESSIONS_REQUIRE_SERVICES", "1")
    python(paths[2], versions[2])
    main()
    lines = [f"{version} {path}" for version, path in zip(versions, paths, strict=True)]
    assert capsys.readouterr().out.splitlines() == lines[:2] + lines


@pytest.mark.parametrize(("which", "place"), [("oldest", 0), ("newest", -1)])
def test_one_interpreter_can_be_asked_for(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], which: str, place: int
) -> None:
    paths = [python(empty / f"python{version}", version) for version in supported()]
    monkeypatch.setattr(sys, "argv", ["tools.pythons", "--only", which])
    main()
    assert capsys.readouterr().out == f"{paths[place]}\n"


def test_every_dependency_has_a_lowest_version() -> None:
    named = {re.split(r"[\[<>=;]", requirement)[0] for requirement in requirements()}
    assert set(lowest()) | {"pymysql"} == named
    assert lowest()["fastapi"] == "0.133"
