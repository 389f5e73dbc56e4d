"""`Session`: a request's session, as the application sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self, TypeVar

from ...info import SessionInfo
from ...records import checked_subject, duration
from ...storage import Duration
from .lazy import LazyDict
from .sources import Source

D = TypeVar("D")

UNSET: Any = object()
"""The value of what was not requested."""


class State:
    """The state of a request's session besides its data.

    Attributes:
        from_cookie: The id in the cookie of the request, if it could be an id of ours; None once its
            session is to be ended.
        id: The id of the stored session; None while the session is new.
        raw: The data as it was read or written last, encoded.
        raw_is_ours: Whether the serializer of this process encoded ``raw``.
        stale: Whether the cookie of the request belongs to no session.
        moved: Whether another request changed the id in the cookie, and its response has the new one.
        vanished: Whether another request ended the session, or changed its id, since it was read.
        drop_logged: Whether it was logged that changes were dropped.
        queued: The key of the session whose other requests wait for this one; None if they do not.
        ending: The id of the session to end when this one is written.
        cookie_due: Whether the browser needs a cookie with an id or expiry.
        clear_due: Whether the browser's cookie has to be deleted.
        cleared: Whether all data was dropped.
        emptied: Whether the request deleted all data of the session, which therefore ends.
        assigned: The keys that were assigned.
        regenerating: Whether a new id was requested.
        subject: The subject requested, or UNSET.
        ttl: The session's own idle timeout in microseconds, None for never, or UNSET.
        browser: Whether the cookie ends when the browser is closed; None if the integration decides.
        expiry_requested: Whether this request set ``ttl`` and ``browser``.
        expiry_dropped: Whether this request dropped a ``ttl`` that is stored.
        cookie_requested: Whether this request changed how long the browser keeps the cookie.
        accessed_since: Whether the request accessed the session since this was last reset.
        sources: Objects whose data is taken over when the session is written.
    """

    # Defaults of the class, since most requests change few of them.
    id: str | None = None
    raw: bytes = b""
    raw_is_ours: bool = False
    stale: bool = False
    moved: bool = False
    vanished: bool = False
    drop_logged: bool = False
    queued: str | None = None
    ending: str | None = None
    cookie_due: bool = False
    clear_due: bool = False
    cleared: bool = False
    emptied: bool = False
    regenerating: bool = False
    subject: Any = UNSET
    ttl: Any = UNSET
    browser: bool | None = None
    expiry_requested: bool = False
    expiry_dropped: bool = False
    cookie_requested: bool = False
    accessed_since: bool = False
    sources: tuple[Source, ...] = ()

    def __init__(self, from_cookie: str | None = None) -> None:
        self.from_cookie = from_cookie
        self.assigned: set[str] = set()

    def stored(self, payload: bytes) -> None:
        """Note the data that was written."""
        self.raw, self.raw_is_ours = payload, True

    def settle(self) -> None:
        """Forget what was requested: it is done."""
        self.cleared = self.emptied = self.regenerating = self.expiry_requested = self.cookie_requested = (
            False
        )
        self.subject = UNSET
        if self.expiry_dropped:
            self.expiry_dropped = False
        if self.assigned:
            self.assigned.clear()
        for source in self.sources:
            source.settle()

    def begin(self, id: str, payload: bytes) -> None:
        """Note that a new session was stored under an id."""
        self.stored(payload)
        self.id, self.ending, self.cookie_due = id, None, True
        self.clear_due = self.stale = self.moved = self.vanished = False
        self.settle()

    def drop_expiry(self) -> None:
        """Forget the session's own expiry, for that of new sessions."""
        self.expiry_dropped = self.expiry_dropped or self.ttl is not UNSET
        self.ttl, self.browser, self.expiry_requested = UNSET, None, True

    def restart(self) -> None:
        """Begin a new session, and have the present one ended."""
        self.ending = self.ending or self.id or self.from_cookie
        self.id = self.from_cookie = None
        self.stored(b"")
        self.moved = self.vanished = self.cookie_due = False
        self.ttl, self.browser = UNSET, None
        for source in self.sources:
            source({})  # whose changes up to now go with the session
        self.settle()


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
        self.accessed = False
        self.modified = False
        self.loaded = True
        self.state = State()
        self._info: SessionInfo | None = None
        self._load = None
        self._attached = False

    @classmethod
    def lazy(cls, from_cookie: str | None, load: Callable[[Session], None] | None) -> Self:
        """The session of an id that is not loaded yet; for integrations.

        Args:
            from_cookie: The id in the cookie of the request, if it could be one.
            load: Loads the session when it is first accessed, or raises.
        """
        session = cls()
        session.state.from_cookie = from_cookie
        session._attached = True
        if from_cookie is not None:
            session.postpone(load)
        return session

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
        self.state.cleared = True
        self.fill(kept)

    @property
    def subject_changed(self) -> bool:
        """Whether the request changes the subject."""
        now = self.info.subject if self.info else None
        return self.state.subject is not UNSET and self.state.subject != now

    @property
    def logs_in(self) -> bool:
        """Whether the request sets a user as the subject; for integrations."""
        return self.state.subject is not UNSET and self.state.subject is not None

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
        self.state.ttl = duration("ttl", ttl)
        self.state.browser = browser
        self.state.expiry_requested = True

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
