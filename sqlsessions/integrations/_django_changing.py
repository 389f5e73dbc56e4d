"""Changes of a session of Django's that depend on what is stored."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted

from ..errors import InvalidArgument, SessionNotFound
from ._web.changing import Changing, Data
from ._web.session import Session

_GONE = "The request's session was deleted before it could be changed."


async def attempts(
    session: SessionBase, changing: Changing, current: Callable[[], Awaitable[Session]], user_key: str
) -> AsyncGenerator[Data]:
    """`Changing.attempts` for a session of Django's, which then has the result.

    Args:
        session: The session.
        changing: Writes changes.
        current: Gives the session as it was read or written last.
        user_key: The key of the user who is logged in.

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
        _check_user(data, changed, user_key)
        if changed:
            await session.aupdate(changed)
            await session.asave()
        return
    stored = await current()
    try:
        async with aclosing(changing.attempts(stored)) as given:
            async for changed in given:
                yield changed
                _check_user(data, changed, user_key)
    except SessionNotFound:
        raise SessionInterrupted(_GONE) from None
    if stored.info is None:  # it was emptied, and ended
        await session.aflush()
        return
    changed = stored.plain()
    for key in data.keys() - changed.keys():
        await session.apop(key)
    await session.aupdate(changed)  # which has Django's middleware renew the cookie


def _check_user(before: Data, after: Data, user_key: str) -> None:
    if before.get(user_key) != after.get(user_key):
        raise InvalidArgument("the function of a change must not log in or out")
