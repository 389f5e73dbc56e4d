"""`Session`: a request's session, as the application sees it."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Self, SupportsIndex, TypeVar

from ...info import SessionInfo
from ...records import duration
from ...storage import Duration
from .arguments import checked_subject

D = TypeVar("D")

UNSET: Any = object()
"""The value of what was not requested."""


class State:
    """The state of a request's session besides its data.

    Attributes:
        candidates: The ids in the cookies of the request, as far as they could be ids of ours.
        from_cookie: The one of them that is used: the last, until the session was read. None if there is
            none, and once its session is to be ended.
        id: The id of the stored session; None while the session is new.
        raw: The data as it was read or written last, encoded.
        raw_is_ours: Whether the serializer of this process encoded ``raw``.
        stale: Whether the cookie of the request belongs to no session.
        vanished: Whether another request ended the session, or changed its id, meanwhile.
        ending: The id of the session to end when this one is written.
        answered: Whether it is too late to set a cookie.
        cookie_until: Until when the browser keeps the cookie, in microseconds since 1970, if the session was
            written later than its cookie; else UNSET.
        cookie_due: Whether the browser needs a cookie with an id or expiry.
        clear_due: Whether the browser's cookie has to be deleted.
        cleared: Whether all data was dropped.
        regenerating: Whether a new id was requested.
        subject: The subject requested, or UNSET.
        ttl: The session's own idle timeout in microseconds, None for never, or UNSET.
        browser: Whether the cookie ends when the browser is closed; None if the integration decides.
        expiry_requested: Whether this request set ``ttl`` and ``browser``.
        cookie_requested: Whether this request changed how long the browser keeps the cookie.
        accessed_since: Whether the request accessed the session since this was last reset.
        sources: Functions that give data to take over when the session is written.
    """

    # Defaults of the class, since most requests change few of them.
    id: str | None = None
    raw: bytes = b""
    raw_is_ours: bool = False
    stale: bool = False
    vanished: bool = False
    ending: str | None = None
    answered: bool = False
    cookie_until: Any = UNSET
    cookie_due: bool = False
    clear_due: bool = False
    cleared: bool = False
    regenerating: bool = False
    subject: Any = UNSET
    ttl: Any = UNSET
    browser: bool | None = None
    expiry_requested: bool = False
    cookie_requested: bool = False
    accessed_since: bool = False
    sources: tuple[Callable[[], Mapping[str, Any]], ...] = ()

    def __init__(self, candidates: tuple[str, ...] = ()) -> None:
        self.candidates = candidates
        self.from_cookie = candidates[-1] if candidates else None

    def stored(self, payload: bytes) -> None:
        """Note the data that was written."""
        self.raw, self.raw_is_ours = payload, True

    def settle(self) -> None:
        """Forget what was requested: it is done."""
        self.cleared = self.regenerating = self.expiry_requested = self.cookie_requested = False
        self.subject = UNSET

    def restart(self) -> None:
        """Begin a new session, and have the present one ended."""
        self.ending = self.ending or self.id or self.from_cookie
        self.id = self.from_cookie = None
        self.stored(b"")
        self.vanished = self.cookie_due = False
        self.ttl, self.browser, self.cookie_until = UNSET, None, UNSET
        self.settle()


class Session(dict[str, Any]):
    """A request's session data, read from the storage when it is first accessed.

    It is a dict: assign, delete, and change nested values; what changed is written when the response
    begins. The other methods do what a dict cannot.

    Attributes:
        accessed: Whether the request accessed it.
        modified: Whether it was assigned to. Changes of nested values are noticed without it.
        loaded: Whether it was read from the storage, or there was nothing to read.
        info: Its `SessionInfo`; None for a new session.
        state: For integrations.
    """

    __slots__ = ("_attached", "_load", "accessed", "info", "loaded", "modified", "state")

    def __init__(self, *data: Mapping[str, Any] | Iterable[tuple[str, Any]], **values: Any) -> None:
        super().__init__(*data, **values)
        self.accessed = False
        self.modified = False
        self.loaded = True
        self.info: SessionInfo | None = None
        self.state = State()
        self._load: Callable[[Session], None] | None = None
        self._attached = False

    @classmethod
    def lazy(cls, candidates: tuple[str, ...], load: Callable[[Session], None] | None) -> Self:
        """The session of one of several ids, not loaded yet; for integrations.

        Args:
            candidates: The ids in the cookies of the request.
            load: Loads the session when it is first accessed, or raises.
        """
        session = cls()
        session.loaded = not candidates
        session.state = State(candidates)
        session._load = load
        session._attached = True
        return session

    @property
    def is_new(self) -> bool:
        """Whether the storage has no such session yet."""
        self.ensure_loaded()
        return self.info is None

    @property
    def subject(self) -> str | None:
        """The user whose session it is, for `ManagedSessionStorage.sessions` and ``revoke``.

        Set it at login. The session then gets a new id, unless the integration is configured otherwise:
        an id that an attacker knew before must not become the user's.
        """
        self.ensure_loaded()
        if self.state.subject is not UNSET:
            requested: str | None = self.state.subject
            return requested
        return self.info.subject if self.info else None

    @subject.setter
    def subject(self, subject: str | None) -> None:
        self._change()
        self.state.subject = None if subject is None else checked_subject(subject)

    @property
    def subject_changed(self) -> bool:
        """Whether the request changes the subject."""
        now = self.info.subject if self.info else None
        return self.state.subject is not UNSET and self.state.subject != now

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

    def fill(self, data: Mapping[str, Any]) -> None:
        """Take over data that was read; for integrations, as it does not count as an access."""
        super().clear()
        super().update(data)
        self.loaded = True

    def detach(self) -> None:
        """Drop the function that loads it; for integrations, when a request is over."""
        self._load = None

    def plain(self) -> dict[str, Any]:
        """The data as a dict; for integrations, as it does not count as an access."""
        return dict(dict.items(self))

    def mark_accessed(self) -> None:
        """Note an access, without reading the session; Starlette calls it for ``request.session``."""
        self.accessed = self.accessed or self._attached
        self.state.accessed_since = True

    def ensure_loaded(self) -> None:
        """Access the session, and read it unless that was done; for integrations."""
        self.accessed = self.accessed or self._attached
        self.state.accessed_since = True
        if not self.loaded and self._load is not None:
            self._load(self)

    def _change(self) -> None:
        self.ensure_loaded()
        self.accessed = self.modified = True

    # Every method of a dict loads the session first.

    def __getitem__(self, key: str) -> Any:
        self.ensure_loaded()
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.ensure_loaded()
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self.ensure_loaded()
        return super().__iter__()

    def __reversed__(self) -> Iterator[str]:
        self.ensure_loaded()
        return super().__reversed__()

    def __len__(self) -> int:
        self.ensure_loaded()
        return super().__len__()

    def __eq__(self, other: object) -> bool:
        self.ensure_loaded()
        return super().__eq__(other)

    __hash__ = None

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"  # data must not appear in logs

    def __reduce_ex__(self, _protocol: SupportsIndex) -> Any:
        return dict, (self.copy(),)

    def get(self, key: str, default: Any = None) -> Any:
        self.ensure_loaded()
        return super().get(key, default)

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        self.ensure_loaded()
        return super().keys()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        self.ensure_loaded()
        return super().values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        self.ensure_loaded()
        return super().items()

    def copy(self) -> dict[str, Any]:
        self.ensure_loaded()
        return self.plain()

    def __setitem__(self, key: str, value: Any) -> None:
        self._change()
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
        self.state.cleared = self.state.expiry_requested = True
        self.state.subject = self.state.browser = None
        self.state.ttl = UNSET
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
        return super().setdefault(key, default)

    def update(self, *others: Any, **values: Any) -> None:
        self._change()
        super().update(*others, **values)
