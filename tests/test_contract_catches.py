"""The contract suite fails for storages that break the contract, and skips what a plain one lacks."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CAUGHT_BY = {
    "Appending": "a_provider_that_raises_changes_nothing",
    "CaseInsensitive": "ids_that_look_alike_are_different",
    "Truncating": "ids_that_look_alike_are_different",
    "Rereading": "a_reader_goes_on_with_the_version_it_began",
    "TooHelpful": "what_a_consumer_raises_comes_through",
    "Stale": "an_invalidated_session_is_not_found",
    "Unconditional": "a_version_asks_for_just_that_one",
    "CheckingEarly": "of_writers_on_one_version_exactly_one_wins",
    "Resurrecting": "a_conditional_write_does_not_bring_a_session_back",
    "TouchingBack": "a_shorter_idle_timeout_does_not_move_the_expiry_back",
    "Forgetful": "a_rewrite_keeps_the_idle_timeout_of_the_session",
    "Coarse": "a_session_lives_to_the_end_of_its_time_and_no_longer",
    "Stopped": "only_a_session_never_rewritten_has_two_equal_times",
    "Overwriting": "a_rotation_to_a_taken_id_changes_nothing",
    "Copying": "a_rotation_changes_the_key_and_nothing_else",
    "FirstPage": "many_sessions_are_listed_once_each_and_revoked",
    "RevokingAll": "revoke_spares_the_session_to_keep",
    "Hasty": "purge_leaves_what_was_extended",
    "Exclusive": "slow_streams_hold_nothing_that_others_need",
}
Outcomes = dict[str, str]


def run(directory: Path, *arguments: str) -> Outcomes:
    """Run pytest in strict mode over the broken storages; gives the outcome of each test."""
    report = directory / "report.xml"
    options = "-q -c /dev/null --noconftest -p no:cacheprovider -p no:hypothesispytest --tb=native -W error"
    options += " --timeout=60 -o timeout_func_only=true"
    options += " -o asyncio_mode=strict -o asyncio_default_fixture_loop_scope=function"
    environment = os.environ | {"CI": "true"}  # pytest then prints more, which must not take longer
    command = [sys.executable, "-m", "pytest", *options.split(), f"--junitxml={report}", *arguments]
    try:
        done = subprocess.run(
            [*command, str(HERE / "broken_storages.py")],
            capture_output=True,
            text=True,
            cwd=directory,
            env=environment,
            check=False,
            timeout=100,
        )
        assert done.returncode in (0, 1), done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        # The report is written by then; a broken storage may leave a thread behind that never ends.
        assert report.exists()
    return {
        f"{case.get('classname')}::{case.get('name')}": next(
            (child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed"
        )
        for case in ET.parse(report).iter("testcase")
    }


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    pairs = " or ".join(f"({test} and {broken})" for broken, test in CAUGHT_BY.items())
    return run(tmp_path_factory.mktemp("broken"), "-k", f"TestBroken and ({pairs})")


def test_a_plain_storage_passes_and_skips_what_it_lacks(tmp_path: Path) -> None:
    counts = Counter(run(tmp_path, "-k", "TestPlain").values())
    assert counts["passed"] > 100
    assert counts["skipped"] > 100
    assert set(counts) == {"passed", "skipped"}


@pytest.mark.parametrize("broken", CAUGHT_BY)
def test_a_broken_storage_is_caught(outcomes: Outcomes, broken: str) -> None:
    own = {outcome for name, outcome in outcomes.items() if name.endswith((f"[{broken}]", f"-{broken}]"))}
    assert "failure" in own
    assert own <= {"failure", "passed"}
