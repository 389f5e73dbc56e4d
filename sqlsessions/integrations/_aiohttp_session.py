"""The session of aiohttp-session, over one of ours."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, NoReturn

import aiohttp_session

from ..errors import UnsupportedOperation
from ..info import SessionInfo
from ..records import TWO_WEEKS, from_datetime
from ._web.session import Session as _Data
from ._web.state import UNSET
from ._web.timeouts import SECOND


class Session(aiohttp_session.Session):
    """aiohttp-session's session, with a subject, new ids on demand and an expiry of its own.

    Changes of nested values are noticed without ``changed()``.
    """

    _mapping: _Data

    def __init__(self, data: _Data, ages: tuple[int | None, int | None], *, replaces: bool = False) -> None:
        super().__init__(None, data=None, new=True, max_age=ages[0])
        self._mapping = data
        self._guest_age = ages[1]
        self.replaces = replaces  # the session of the request
        self.changed()  # so that the middleware always calls `save_session`, which compares the bytes

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"  # data and ids must not appear in logs

    @property
    def new(self) -> bool:
        """Whether the storage has no such session yet."""
        return self._mapping.is_new

    @property
    def info(self) -> SessionInfo | None:
        """Its `SessionInfo`; None for a new session. Its key is that of this device in a list of sessions."""
        return self._mapping.info

    @property
    def ended(self) -> bool:
        """Whether `refresh` found that the session has ended, or that another user has it; it is then empty."""
        return self._mapping.ended

    @property
    def identity(self) -> str | None:
        """The session id, a credential; None while the session is new."""
        return self._mapping.state.id

    @property
    def created(self) -> int:
        """When the session was created, in seconds since 1970 UTC."""
        info = self._mapping.info
        return self._created if info is None else from_datetime(info.created_at) // SECOND

    @property
    def max_age(self) -> int | None:
        """Seconds after its last use that the session ends and the cookie with it.

        Set it for "remember me". With None the cookie ends when the browser is closed; set to None, the
        session ends 14 days after its last use at the latest.
        """
        state = self._mapping.state
        if state.browser is None:
            return self._max_age if self._mapping.subject is not None else self._guest_age
        return None if state.browser or state.ttl in (UNSET, None) else state.ttl // SECOND

    @max_age.setter
    def max_age(self, value: int | None) -> None:
        self._mapping.set_expiry(TWO_WEEKS if value is None else value, browser=value is None)

    @property
    def subject(self) -> str | None:
        """The user whose session it is. Set it at login: the session then gets a new id."""
        return self._mapping.subject

    @subject.setter
    def subject(self, subject: str | None) -> None:
        self._mapping.subject = subject

    @property
    def labels(self) -> tuple[str, ...]:
        """Further names of the session, for `ManagedSessionStorage.sessions` and ``revoke_label``: at most 16."""
        return self._mapping.labels

    @labels.setter
    def labels(self, labels: Collection[str]) -> None:
        self._mapping.labels = labels

    @property
    def authenticated_at(self) -> datetime | None:
        """When the user logged in, in UTC: when `subject` was set, or `reauthenticated` called. None if that is not known."""
        return self._mapping.authenticated_at

    def reauthenticated(self) -> None:
        """Note that the user has just proved again who it is, as by a password. The session gets a new id.

        Raises:
            InvalidArgument: If nobody is logged in.
        """
        self._mapping.reauthenticated()

    def regenerate(self) -> None:
        """Give the session a new id when it is saved; the old one is refused from then on."""
        self._mapping.regenerate()

    def invalidate(self) -> None:
        """End the session: log out. It stays ended whatever slower requests still do.

        Data that is assigned afterwards begins a new session with a new id.
        """
        self._mapping.invalidate()

    def set_new_identity(self, _identity: Any | None) -> NoReturn:
        """Refuse: an id that is not random is not safe.

        Raises:
            UnsupportedOperation: Always.
        """
        raise UnsupportedOperation("session ids are made by the key_factory of AioHttpStorage only")
