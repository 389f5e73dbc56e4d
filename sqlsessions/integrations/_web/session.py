"""`Session`: a request's session, as the application sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any, Self, TypeVar

from ...errors import InvalidArgument
from ...info import SessionInfo
from ...records import Clock, as_datetime, checked_labels, duration, microseconds
from ...storage import Duration
from .lazy import LazyDict
from .state import UNSET, State
from .subjects import checked_subject

D = TypeVar("D")


class Session(LazyDict):
    """A request's session data, read from the storage when it is first accessed.

    It is a dict: assign, delete, and change nested values; what changed is written when the response
    begins. The other methods do what a dict cannot.

    Attributes:
        accessed: Whether the request accessed it.
        modified: Whether it was assigned to. Changes of nested values are noticed without it.
        loaded: Whether it was read from the storage, or there was nothing to read.
        state: For integrations.
    """

    __slots__ = ("_attached", "_info", "accessed", "modified", "state")

    def __init__(self, *data: Mapping[str, Any] | Iterable[tuple[str, Any]], **values: Any) -> None:
        super().__init__(*data, **values)
        self._begin(State(), None, attached=False)

    def _begin(self, state: State, load: Callable[[Session], None] | None, *, attached: bool) -> None:
        self.accessed = self.modified = False
        self.state = state
        self._info: SessionInfo | None = None
        self._attached = attached
        if state.candidates:
            self.postpone(load)
        else:
            self.loaded, self._load = True, None

    @classmethod
    def lazy(
        cls,
        candidates: tuple[str, ...],
        load: Callable[[Session], None] | None,
        clock: Clock = time.time,
    ) -> Self:
        """The session of one of several ids, not loaded yet; for integrations.

        Args:
            candidates: The ids in the cookies of the request.
            load: Loads the session when it is first accessed, or raises.
            clock: Gives the time in seconds.
        """
        session = cls.__new__(cls)  # there is no data to begin with
        session._begin(State(candidates, clock), load, attached=True)  # noqa: SLF001 (of this class)
        return session

    @property
    def is_in_use(self) -> bool:
        """Whether there may be something to write; for integrations."""
        return self.loaded and (self.accessed or bool(self.state.sources))

    @property
    def info(self) -> SessionInfo | None:
        """Its `SessionInfo`; None for a new session."""
        if not self.loaded:
            self.ensure_loaded()
        return self._info

    @info.setter
    def info(self, info: SessionInfo | None) -> None:
        self._info = info

    @property
    def is_new(self) -> bool:
        """Whether the storage has no such session yet."""
        self.ensure_loaded()
        return self.info is None

    @property
    def ended(self) -> bool:
        """Whether ``refresh`` found that the session has ended, or that another user has it; it is then empty."""
        return self.state.ended

    @property
    def subject(self) -> str | None:
        """The user whose session it is, for `ManagedSessionStorage.sessions` and ``revoke``.

        Set it at login, also at one of the same user. The session then gets a new id, unless the integration
        is configured otherwise: an id that an attacker knew before must not become the user's. From one user
        to another, the data of the first is dropped with its expiry; a visitor's is kept.
        """
        self.ensure_loaded()
        if self.state.subject is not UNSET:
            requested: str | None = self.state.subject
            return requested
        return self.info.subject if self.info else None

    @subject.setter
    def subject(self, subject: str | None) -> None:
        self._change()
        if subject is not None:
            self._belong_to(checked_subject(subject))
        self.state.subject = subject
        self.state.authenticate(None if subject is None else microseconds(self.state.clock))

    @property
    def labels(self) -> tuple[str, ...]:
        """Further names of the session, for `ManagedSessionStorage.sessions` and ``revoke_label``: at most 16.

        Such as that of a tenant, or of the login at an OpenID provider, its ``sid``. Assign all of them. They move
        with the session to a new id, and go with the user.
        """
        self.ensure_loaded()
        if self.state.labels is not UNSET:
            return tuple(self.state.labels)
        return self.info.labels if self.info else ()

    @labels.setter
    def labels(self, labels: Collection[str]) -> None:
        checked = checked_labels(labels)
        self._change()
        self.state.labels = checked

    @property
    def labels_changed(self) -> bool:
        """Whether the request changes the labels."""
        if self.state.labels is UNSET:
            return False
        return bool(self.state.labels != (self.info.labels if self.info else ()))

    @property
    def authenticated_at(self) -> datetime | None:
        """When the user logged in, in UTC: when `subject` was set, or `reauthenticated` called. None if that is not known."""
        self.ensure_loaded()
        authenticated = self.state.authenticated
        return None if authenticated is None or self.subject is None else as_datetime(authenticated)

    def reauthenticated(self) -> None:
        """Note that the user has just proved again who it is, as by a password. The session gets a new id.

        Raises:
            InvalidArgument: If nobody is logged in.
        """
        if self.subject is None:
            raise InvalidArgument("nobody is logged in: set session.subject")
        self.regenerate()
        self.state.authenticate(microseconds(self.state.clock))

    def _belong_to(self, subject: str) -> None:
        """Drop the data of another user."""
        if self.logs_in and self.state.subject != subject:
            kept: dict[str, Any] = {}
        elif self.info is not None and self.info.subject not in (None, subject):
            kept = {key: value for key, value in dict.items(self) if key in self.state.assigned}
        else:
            return
        if not self.state.expiry_requested:
            self.state.drop_expiry()
        if self.state.labels is UNSET:
            self.state.labels = ()
        self.state.cleared = True
        self.fill(kept)

    @property
    def subject_changed(self) -> bool:
        """Whether the request changes the subject."""
        if self.state.subject is UNSET:
            return False
        return bool(self.state.subject != (self.info.subject if self.info else None))

    @property
    def logs_in(self) -> bool:
        """Whether the request sets a user as the subject; for integrations."""
        return self.state.subject not in (UNSET, None) and not self.state.adopts

    def regenerate(self) -> None:
        """Give the session a new id when it is written; the old one is refused from then on."""
        self._change()
        self.state.regenerating = True

    def invalidate(self) -> None:
        """End the session: log out. It stays ended whatever slower requests still do.

        It is not read for that. Data that is assigned afterwards begins a new session with a new id.
        """
        self.fill({})
        self.info = None
        self.state.restart()
        self.accessed = self.modified = self.state.accessed_since = True

    def set_expiry(self, ttl: Duration | None, *, browser: bool = False) -> None:
        """Give this session an idle timeout of its own, such as "remember me".

        Args:
            ttl: Seconds or a timedelta after its last use; None is never.
            browser: Whether the cookie ends when the browser is closed.

        Raises:
            InvalidArgument: If ``ttl`` is not above 0 and at most 1,000 years.
            InvalidArgumentType: If it is not a duration.
        """
        self._change()
        state, requested = self.state, (duration("ttl", ttl), browser)
        state.cookie_requested = state.cookie_requested or requested != (state.ttl, state.browser)
        state.ttl, state.browser = requested
        state.expiry_requested = True

    def detach(self, late: Callable[[Session], None] | None = None) -> None:
        """Drop the function that loads it; for integrations, when a request is over.

        Args:
            late: Takes its place. None has accesses to a session that was not read raise.
        """
        self._load = late

    def mark_accessed(self) -> None:
        """Note an access, without reading the session; Starlette calls it for ``request.session``."""
        self.accessed = self.accessed or self._attached
        self.state.accessed_since = True

    def mark_modified(self) -> None:
        """Note a change, as Starlette's sessions can; not needed, since changes are noticed."""
        self._change()

    def ensure_loaded(self) -> None:
        """Access the session, and read it unless that was done; for integrations."""
        self.accessed = self.accessed or self._attached
        self.state.accessed_since = True
        if not self.loaded:
            super().ensure_loaded()

    def _change(self) -> None:
        self.ensure_loaded()
        self.accessed = self.modified = True

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"  # data must not appear in logs

    def __setitem__(self, key: str, value: Any) -> None:
        self._change()
        self.state.assigned.add(key)
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self._change()
        super().__delitem__(key)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override]
        self.update(other)
        return self

    def clear(self) -> None:
        """Drop all data. Without new data the session ends; with new data it gets a new id."""
        self._change()
        self.state.cleared = True
        self.state.subject = None
        self.state.labels = ()
        self.state.authenticate(None)
        self.state.drop_expiry()
        super().clear()

    def pop(self, key: str, *default: D) -> Any:
        if key in self:
            self._change()
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        self._change()
        return super().popitem()

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self._change()
            self.state.assigned.add(key)
        return super().setdefault(key, default)

    def update(self, *others: Any, **values: Any) -> None:
        self._change()
        new = dict(*others, **values)
        self.state.assigned.update(new)
        super().update(new)
