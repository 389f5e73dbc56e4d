"""`Session`: what a request sees of its session."""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from typing import Any, Self, SupportsIndex, TypeVar

from ...info import SessionInfo
from ...records import checked_subject, duration
from ...storage import Duration

D = TypeVar("D")

UNSET: Any = object()
"""What the request did not ask for."""


class State:
    """What an integration knows of a request's session besides its data.

    Attributes:
        presented: The id that the request came with, if it could be one of ours.
        id: The id of the session that there is; None while it is new.
        raw: The data as it was read or written last.
        stale: Whether the request came with a cookie that stands for no session.
        vanished: Whether another request ended the session, or gave it a new id, meanwhile.
        cookie_due: Whether the browser needs to be told of an id or an expiry.
        clear_due: Whether it needs to be told that there is no session.
        cleared: Whether the data was dropped as a whole.
        regenerating: Whether a new id was asked for.
        subject: The subject asked for, or UNSET.
        ttl: The session's own idle timeout in microseconds, None for never, or UNSET.
        browser: Whether the browser is to forget it when closed; None if nothing was said.
        expiry_asked: Whether this request set those two.
        looked: Whether the request looked at the session since this was last reset.
        sources: Give data to take over when the session is written.
    """

    # Defaults of the class, since most requests ask for none of it.
    id: str | None = None
    raw: bytes = b""
    stale: bool = False
    vanished: bool = False
    cookie_due: bool = False
    clear_due: bool = False
    cleared: bool = False
    regenerating: bool = False
    subject: Any = UNSET
    ttl: Any = UNSET
    browser: bool | None = None
    expiry_asked: bool = False
    looked: bool = False
    sources: tuple[Callable[[], Mapping[str, Any]], ...] = ()

    def __init__(self, presented: str | None = None) -> None:
        self.presented = presented

    def written(self) -> None:
        """Forget what was asked for: it is done."""
        self.cleared = self.regenerating = self.expiry_asked = False
        self.subject = UNSET


class Session(dict[str, Any]):
    """A request's session data, read from the storage when it is first looked at.

    It is a dict: assign, delete, and change nested values; what changed is written when the response
    begins. The other methods do what a dict cannot.

    Attributes:
        accessed: Whether the request looked at it.
        modified: Whether it was assigned to. Changes of nested values are noticed without it.
        loaded: Whether it was read from the storage, or there was nothing to read.
        info: What the storage knows of it; None for one that is new.
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
    def lazy(cls, presented: str | None, load: Callable[[Session], None] | None) -> Self:
        """The session of an id that a request presents; for integrations.

        Args:
            presented: The id, if it could be one.
            load: Loads the session when it is first looked at, or raises.
        """
        session = cls()
        session.loaded = presented is None
        session.state.presented = presented
        session._load = load
        session._attached = True
        return session

    @property
    def is_new(self) -> bool:
        """Whether the storage has no such session yet."""
        self._look()
        return self.info is None

    @property
    def subject(self) -> str | None:
        """Whose session it is, as `ManagedSessionStorage.sessions` and ``revoke`` know it.

        Set it at login. The session then gets a new id, unless the integration was told otherwise:
        one that somebody knew before must not become the user's.
        """
        self._look()
        if self.state.subject is not UNSET:
            asked: str | None = self.state.subject
            return asked
        return self.info.subject if self.info else None

    @subject.setter
    def subject(self, subject: str | None) -> None:
        self._change()
        self.state.subject = None if subject is None else checked_subject(subject)

    @property
    def subject_changed(self) -> bool:
        """Whether the request gave the session to another subject."""
        now = self.info.subject if self.info else None
        return self.state.subject is not UNSET and self.state.subject != now

    def regenerate(self) -> None:
        """Give the session a new id when it is written; the old one is refused from then on."""
        self._change()
        self.state.regenerating = True

    def invalidate(self) -> None:
        """End the session: log out. It stays ended whatever slower requests still do."""
        self.clear()

    def set_expiry(self, ttl: Duration | None, *, browser: bool = False) -> None:
        """Give this session an idle timeout of its own, such as "remember me".

        Args:
            ttl: Seconds or a timedelta after its last use; None is never.
            browser: Whether the browser forgets it when closed.

        Raises:
            InvalidArgument: If ``ttl`` is not above 0 and at most 1,000 years.
            InvalidArgumentType: If it is no duration.
        """
        self._change()
        self.state.ttl = duration("ttl", ttl)
        self.state.browser = browser
        self.state.expiry_asked = True

    def fill(self, data: Mapping[str, Any]) -> None:
        """Take over what was read; for integrations, as it does not count as looked at."""
        super().clear()
        super().update(data)
        self.loaded = True

    def detach(self) -> None:
        """Load nothing any more; for integrations, when a request is over."""
        self._load = None

    def plain(self) -> dict[str, Any]:
        """The data as a dict; for integrations, as it does not count as looked at."""
        return dict(dict.items(self))

    def mark_accessed(self) -> None:
        """Look at the session; Starlette calls it where ``request.session`` is said."""
        self._look()

    def _look(self) -> None:
        self.accessed = self.accessed or self._attached
        self.state.looked = True
        if not self.loaded and self._load is not None:
            self._load(self)

    def _change(self) -> None:
        self._look()
        self.accessed = self.modified = True

    # Everything that reads or changes a dict looks at the session first.

    def __getitem__(self, key: str) -> Any:
        self._look()
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self._look()
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self._look()
        return super().__iter__()

    def __reversed__(self) -> Iterator[str]:
        self._look()
        return super().__reversed__()

    def __len__(self) -> int:
        self._look()
        return super().__len__()

    def __eq__(self, other: object) -> bool:
        self._look()
        return super().__eq__(other)

    __hash__ = None

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"  # data appears in no log

    def __reduce_ex__(self, _protocol: SupportsIndex) -> Any:
        return dict, (self.copy(),)

    def get(self, key: str, default: Any = None) -> Any:
        self._look()
        return super().get(key, default)

    def keys(self) -> KeysView[str]:  # type: ignore[override]
        self._look()
        return super().keys()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        self._look()
        return super().values()

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        self._look()
        return super().items()

    def copy(self) -> dict[str, Any]:
        self._look()
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
        """Drop everything. If nothing is put in, the session ends; else it gets a new id."""
        self._change()
        self.state.cleared = self.state.expiry_asked = True
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
