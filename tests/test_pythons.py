"""The supported Pythons and dependencies: what is declared is what CI runs."""

from __future__ import annotations

import os
import re
import subprocess
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
    monkeypatch.delenv("SQLSESSIONS_REQUIRE_SERVICES", raising=False)
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
    """The Pythons are those that `tools.pythons` finds, the lowest versions those of `tools.lowest`."""
    assert (ROOT / ".ci/run").read_text().rstrip().endswith("\nmake ci")
    rules = dict(re.findall(r"^([a-z]+):(.*(?:\n\t.*)*)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"check", "others"} <= set(rules["ci"].split())
    assert {"pythons", "lowest", "newest"} <= set(rules["others"].split())
    assert "-m tools.pythons $(PYTHONS))" in rules["pythons"]
    assert "-m tools.lowest >" in rules["lowest"]
    assert all("$(MAKE) quick PYTHON=" in rules[job] for job in ("pythons", "lowest", "newest"))


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


def test_the_version_that_runs_can_be_left_out(
    empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = {version: python(empty / f"python{version}", version) for version in supported()}
    monkeypatch.setattr(sys, "argv", ["tools.pythons", "--others"])
    main()
    del paths[HERE]
    assert capsys.readouterr().out == "".join(f"{version} {path}\n" for version, path in paths.items())


def test_every_dependency_has_a_lowest_version() -> None:
    named = {re.split(r"[\[<>=;]", requirement)[0] for requirement in requirements()}
    assert set(lowest()) | {"pymysql"} == named
    assert lowest()["starlette"] == "1.0"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("python2.7", r"sqlsessions needs Python 3\.11 or newer; \S+ is 2\.7"),
        ("python9.9", "there is no python9.9 here"),
    ],
)
def test_a_python_that_will_not_do_is_named_and_leaves_nothing(tmp_path: Path, name: str, said: str) -> None:
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / file).write_bytes((ROOT / file).read_bytes())
    old = tmp_path / "python2.7"
    code = f"import sys; sys.version_info, sys.executable = (2, 7), '{old}'; exec(sys.argv[1])"
    old.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$2"\n')
    old.chmod(0o755)
    clean = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MAKE", "MFLAGS", "VENV", "PYTHON", "CONSTRAINTS", "EXTRA"))
    }
    command = ["make", "quick", f"PYTHON={name}"]
    environment = clean | {"PATH": f"{tmp_path}{os.pathsep}{clean['PATH']}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.search(said, done.stderr)
    assert not list(tmp_path.glob(".venv*"))
