"""The contract suites fail for what breaks the contract, and allow for what a plain storage or integration lacks."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import pytest

from sqlsessions.testing import IntegrationContract

HERE = Path(__file__).parent
STORAGES = {
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
    "Oblivious": "a_use_is_noted_once_it_is_due",
    "Forgetful": "a_rewrite_keeps_the_idle_timeout_of_the_session",
    "Coarse": "a_session_lives_to_the_end_of_its_time_and_no_longer",
    "Stopped": "only_a_session_never_rewritten_has_two_equal_times",
    "Overwriting": "a_rotation_to_a_taken_id_changes_nothing",
    "Copying": "a_rotation_changes_the_key_and_nothing_else",
    "FirstPage": "many_sessions_are_listed_once_each_and_revoked",
    "RevokingAll": "revoke_spares_the_session_to_keep",
    "Indiscriminate": "sessions_that_began_before_a_time_are_ended",
    "Unlabelled": "labels_go_with_their_session",
    "Rooted": "labels_move_with_a_rotation",
    "Hasty": "purge_leaves_what_was_extended",
    "Discreet": "each_end_leaves_a_record",
    "Exclusive": "slow_streams_hold_nothing_that_others_need",
}
INTEGRATIONS = {
    "Adopting": "a_foreign_id_is_not_adopted",
    "Eager": "a_request_that_does_not_look_costs_nothing",
    "Writing": "a_request_that_reads_writes_nothing",
    "Losing": "two_requests_at_once_keep_both_changes",
    "Resurrecting": "a_slow_change_does_not_undo_a_logout",
    "Renewing": "a_slow_request_after_a_logout_gets_no_cookie",
    "Shallow": "a_nested_change_is_kept",
    "Fixed": "a_login_gives_a_new_id",
    "Copying": "a_new_id_on_demand",
    "Forgetting": "a_logout_ends_the_session",
    "Local": "a_late_logout_in_another_process_ends_the_session",
    "Clearing": "a_late_look_in_another_process_leaves_the_cookie",
    "Missing": "a_slow_login_after_a_logout_is_one",
    "Hiding": "an_unavailable_storage_is_a_503",
    "Talkative": "an_unavailable_storage_is_a_503",
    "Strict": "unreadable_data_is_no_session",
    "Lenient": "unreadable_data_belongs_to_no_user",
    "Trusting": "a_user_lists_and_ends_sessions",
    "Immortal": "an_idle_session_ends",
    "Exposed": "the_cookie_is_for_this_host_and_no_script",
    "Insecure": "the_cookie_is_secure_over_https",
    "Cacheable": "shared_caches_keep_no_answer",
    "Baking": "a_bearer_keeps_a_session",
    "Believing": "a_foreign_bearer_is_not_adopted",
    "Ageless": "a_login_is_fresh_for_a_while",
    "Lasting": "to_authenticate_again_gives_a_new_id",
    "Nameless": "a_key_logs_a_user_in",
    "Mixing": "a_key_of_another_user_leaves_nothing_of_the_first",
    "Patient": "a_guest_has_a_timeout_of_its_own",
    "Hasty": "a_login_gives_a_guest_the_timeout_of_users",
    "Oblivious": "a_look_is_noted_once_it_is_due",
    "Open": "a_bearer_counts_where_it_is_asked_for_alone",
}
Outcomes = dict[str, str]


def run(directory: Path, module: str, *arguments: str) -> Outcomes:
    """Run pytest in strict mode over what is broken; gives the outcome of each test."""
    report = directory / "report.xml"
    options = "-q -c /dev/null --noconftest -p no:cacheprovider -p no:hypothesispytest --tb=native -W error"
    options += " --timeout=60 -o timeout_func_only=true"
    options += " -o asyncio_mode=strict -o asyncio_default_fixture_loop_scope=function"
    environment = os.environ | {"CI": "true"}  # pytest then prints more, which must not take longer
    command = [sys.executable, "-m", "pytest", *options.split(), f"--junitxml={report}", *arguments]
    try:
        done = subprocess.run(
            [*command, str(HERE / module)],
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


def run_broken(factory: pytest.TempPathFactory, module: str, caught_by: dict[str, str]) -> Outcomes:
    pairs = " or ".join(f"({test} and {broken})" for broken, test in caught_by.items())
    return run(factory.mktemp("broken"), module, "-k", f"TestBroken and ({pairs})")


@pytest.fixture(scope="module")
def storages(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return run_broken(tmp_path_factory, "broken_storages.py", STORAGES)


@pytest.fixture(scope="module")
def integrations(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return run_broken(tmp_path_factory, "broken_integrations.py", INTEGRATIONS)


def assert_caught(outcomes: Outcomes, broken: str) -> None:
    own = {outcome for name, outcome in outcomes.items() if name.endswith((f"[{broken}]", f"-{broken}]"))}
    assert "failure" in own
    assert own <= {"failure", "passed"}


def test_a_plain_storage_passes_and_skips_what_it_lacks(tmp_path: Path) -> None:
    counts = Counter(run(tmp_path, "broken_storages.py", "-k", "TestPlain").values())
    assert counts["passed"] > 100
    assert counts["skipped"] > 100
    assert set(counts) == {"passed", "skipped"}


@pytest.mark.parametrize("broken", STORAGES)
def test_a_broken_storage_is_caught(storages: Outcomes, broken: str) -> None:
    assert_caught(storages, broken)


def test_a_plain_integration_passes_but_what_it_declares_to_lack(tmp_path: Path) -> None:
    counts = Counter(run(tmp_path, "broken_integrations.py", "-k", "TestPlain").values())
    assert counts["passed"] > 60
    assert 4 < counts["skipped"] < 24  # which is how the report counts tests that fail as expected
    assert set(counts) == {"passed", "skipped"}


@pytest.mark.parametrize("broken", INTEGRATIONS)
def test_a_broken_integration_is_caught(integrations: Outcomes, broken: str) -> None:
    assert_caught(integrations, broken)


def test_what_is_declared_to_fail_must_fail(tmp_path: Path) -> None:
    outcomes = run(tmp_path, "broken_integrations.py", "-k", "TestOverstated and test_a_session_is_kept")
    assert set(outcomes.values()) == {"failure"}


def test_what_is_declared_to_fail_must_exist() -> None:
    with pytest.raises(TypeError, match="names no test of the contract: a_sesion_is_kept"):
        type("Misspelt", (IntegrationContract,), {"lacks": {"a_sesion_is_kept": "a reason"}})
