"""`SessionStrategy`: logins of fastapi-users kept in a session storage."""

from __future__ import annotations

import time
from typing import Generic

from ..errors import missing

try:
    from fastapi_users import exceptions, models
except ModuleNotFoundError as error:
    raise missing(error, "sqlsessions.integrations.fastapi_users", "fastapi-users") from error
from fastapi_users.authentication.strategy import Strategy
from fastapi_users.manager import BaseUserManager

from ..storage import DEFAULT, Default, Duration, ManagedSessionStorage, new_session_id
from ._web.arguments import checked_storage, default_ttl, touch_every
from ._web.cookies import parse_id
from ._web.renewal import Renewal
from ._web.state import State
from ._web.timeouts import Timeouts

__all__ = ["SessionStrategy"]

_SECOND = 1_000_000


class SessionStrategy(Strategy[models.UP, models.ID], Generic[models.UP, models.ID]):
    """A strategy for fastapi-users' ``AuthenticationBackend``, with either of its transports.

    A token is the id of a session whose subject is the user's id as text. So ``storage.sessions(str(user.id))``
    lists where a user is logged in, and ``storage.revoke(str(user.id))`` logs the user out everywhere, such as
    after a change of the password. The database holds no token, only its digest.

    A session is extended as it is used, with one write for each 20th of the ``ttl``; reading it is one statement.
    Every method may raise `StorageUnavailable`.

    Args:
        storage: The storage of the sessions; it is not closed.
        ttl: Seconds after its last use that a login ends; None is never. DEFAULT is the storage's own timeout.
        absolute_timeout: Seconds after it that a login ends however much it is used; None leaves that to the
            storage.

    Raises:
        InvalidArgument: If a timeout is not above 0 and at most 1,000 years, or ``ttl`` is above the absolute one.
        InvalidArgumentType: If an argument is of the wrong type.
    """

    def __init__(
        self,
        storage: ManagedSessionStorage,
        *,
        ttl: Duration | Default | None = DEFAULT,
        absolute_timeout: Duration | None = None,
    ) -> None:
        self._storage = checked_storage(storage)
        self._timeouts = Timeouts.checked(ttl, absolute_timeout)
        clock = getattr(storage, "clock", time.time)
        self._renewal = Renewal(self._timeouts, default_ttl(storage), clock, touch_every(storage))

    async def read_token(
        self, token: str | None, user_manager: BaseUserManager[models.UP, models.ID]
    ) -> models.UP | None:
        """The user who is logged in with a token; None if nobody is."""
        if (id := parse_id(token)) is None or (info := await self._storage.info(id)) is None:
            return None
        if info.subject is None:
            return None
        try:
            user = await user_manager.get(user_manager.parse_id(info.subject))
        except (exceptions.UserNotExists, exceptions.InvalidID):
            return None
        if self._renewal.is_touch_due(State(), info) and await self._storage.touch(id) is None:
            return None
        return user

    async def write_token(self, user: models.UP) -> str:
        """The token of a new login."""
        token, absolute = new_session_id(), self._timeouts.absolute
        idle = self._timeouts.idle
        await self._storage.write_bytes(
            token,
            b"",
            ttl=idle / _SECOND if isinstance(idle, int) else idle,
            max_age=DEFAULT if absolute is None else absolute / _SECOND,
            subject=str(user.id),
            if_match=0,
        )
        return token

    async def destroy_token(self, token: str, user: models.UP) -> None:  # noqa: ARG002 (of the interface)
        """End the login of a token."""
        if (id := parse_id(token)) is not None:
            await self._storage.invalidate(id)
