"""Changes of a session of Django's that depend on what is stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted

from ..errors import InvalidArgument, SessionNotFound
from ._web.changing import Changing, Data
from ._web.session import Session
from ._web.subjects import checked_subject

USER = "_auth_user_id"  # django.contrib.auth.SESSION_KEY, which cannot be imported before the apps are loaded
_GONE = "The request's session was deleted before it could be changed."


async def attempts(
    session: SessionBase, changing: Changing, current: Callable[[], Awaitable[Session]]
) -> AsyncGenerator[Data]:
    """`Changing.attempts` for a session of Django's, which then has the result.

    Args:
        session: The session.
        changing: Writes changes.
        current: Gives the session as it was read or written last.

    Raises:
        SessionInterrupted: If the session has ended, or another user has it now.
        InvalidArgument: If a change logs in or out.
    """
    if session.modified:
        try:
            await session.asave()
        except UpdateError as error:
            raise SessionInterrupted(_GONE) from error
    data = dict(await session.aitems())
    if session.session_key is None:
        changed = dict(data)
        yield changed
        _check_user(data, changed)
        if changed:
            await session.aupdate(changed)
            await session.asave()
        return
    stored = await current()
    try:
        async with aclosing(changing.attempts(stored)) as given:
            async for changed in given:
                yield changed
                _check_user(data, changed)
    except SessionNotFound:
        raise SessionInterrupted(_GONE) from None
    if stored.info is None:  # it was emptied, and ended
        await session.aflush()
        return
    changed = stored.plain()
    for key in data.keys() - changed.keys():
        await session.apop(key)
    await session.aupdate(changed)  # which has Django's middleware renew the cookie


def _check_user(before: Data, after: Data) -> None:
    if before.get(USER) != after.get(USER):
        raise InvalidArgument("the function of a change must not log in or out")


def take_over(merged: Mapping[str, Any], given: Mapping[str, Any], data: dict[str, Any]) -> None:
    """Take over the changes of other requests that the data given was merged with."""
    for key in given.keys() - merged.keys():
        data.pop(key, None)
    data.update({key: value for key, value in merged.items() if key not in given or given[key] != value})


def user_in(data: Mapping[str, Any]) -> str | None:
    """The subject that the data names: the user who is logged in."""
    user = data.get(USER)
    return None if user is None else checked_subject(str(user))
