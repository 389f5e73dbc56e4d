"""Users who are logged in by a key of the session alone: what the frameworks' contract does not show."""

from __future__ import annotations

from typing import Any

import pytest

from sqlsessions import InvalidArgumentType, SessionStorageMemory
from sqlsessions.integrations._web.changing import apply
from sqlsessions.testing import ManualClock, SpyStorage

from .moving import answer, begin, id_of, process, read, sessions


@pytest.fixture
def memory(clock: ManualClock) -> SpyStorage:
    return SpyStorage(SessionStorageMemory(clock=clock))


async def subjects(memory: SpyStorage) -> list[str | None]:
    return [info.subject for info in await sessions(memory)]


async def test_a_key_from_before_is_taken_over_without_a_login(memory: SpyStorage) -> None:
    id = await begin(process(memory), user=7)
    keyed = process(memory, subject_key="user")
    session, late = await read(keyed, id), await read(keyed, id)
    late["late"] = 1
    for each in (session, late):
        await keyed.commit(each)
        assert id_of(each) == id
    assert session.subject == late.subject == "7"
    assert session.authenticated_at is None
    assert await subjects(memory) == ["7"]
    assert (await read(keyed, id)).plain() == {"user": 7, "late": 1}


async def test_a_function_of_the_data_names_the_user(memory: SpyStorage, clock: ManualClock) -> None:
    keyed = process(memory, subject_key=lambda data: data.get("account", {}).get("name"))
    id = await begin(keyed, account={})
    session = await read(keyed, id)
    session["account"]["name"] = "ann"
    assert await answer(keyed, session)
    assert id_of(session) != id
    assert session.authenticated_at is not None
    assert session.authenticated_at.timestamp() == clock()
    assert await subjects(memory) == ["ann"]


async def test_a_login_after_all_was_cleared_is_one_of_the_same_user_too(memory: SpyStorage) -> None:
    keyed = process(memory, subject_key="user")
    id = await begin(keyed, user=7, a=1)
    session = await read(keyed, id)
    session.clear()
    session["user"] = 7
    assert await answer(keyed, session)
    assert id_of(session) != id
    assert session.authenticated_at is not None
    assert await subjects(memory) == ["7"]


async def test_a_subject_that_is_set_counts(memory: SpyStorage) -> None:
    keyed = process(memory, subject_key="user")
    session = await read(keyed, await begin(keyed, a=1))
    session["user"] = 7
    session.subject = "ann"
    await answer(keyed, session)
    assert await subjects(memory) == ["ann"]
    session = await read(keyed, id_of(session))
    session["b"] = 1
    await answer(keyed, session)
    assert await subjects(memory) == ["ann"]


async def test_a_login_by_a_change_is_one(memory: SpyStorage) -> None:
    keyed = process(memory, subject_key="user")
    id = await begin(keyed, a=1)
    session = await read(keyed, id)
    await apply(keyed.changing.attempts(session), lambda data: data.update(user=7))
    assert await answer(keyed, session)
    assert id_of(session) != id
    assert await subjects(memory) == ["7"]


@pytest.mark.parametrize("value", [1.5, True, ["a"]], ids=str)
async def test_a_key_holds_a_string_or_an_integer(memory: SpyStorage, value: Any) -> None:
    keyed = process(memory, subject_key="user")
    with pytest.raises(InvalidArgumentType, match="'user' of a session must hold a string or an integer"):
        await begin(keyed, user=value)
    assert await sessions(memory) == []


@pytest.mark.parametrize("value", [None, ""], ids=repr)
async def test_a_key_may_name_nobody(memory: SpyStorage, value: str | None) -> None:
    keyed = process(memory, subject_key="user")
    session = await read(keyed, await begin(keyed, user="ann", a=1))
    session["user"] = value
    await answer(keyed, session)
    assert await subjects(memory) == [None]


def test_a_subject_key_is_a_key_or_a_function(memory: SpyStorage) -> None:
    with pytest.raises(InvalidArgumentType, match="not int"):
        process(memory, subject_key=7)
