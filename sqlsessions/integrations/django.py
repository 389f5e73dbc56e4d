"""Sessions for Django: ``SESSION_ENGINE = "sqlsessions.integrations.django"``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from ..errors import InvalidArgument, missing

try:
    from django.conf import settings
except ModuleNotFoundError as error:
    raise missing(error, "sqlsessions.integrations.django", "django") from error
from django.contrib.sessions.backends.base import CreateError, SessionBase, UpdateError
from django.core.signals import setting_changed
from django.http import HttpRequest
from django.utils import timezone

from .._validation import MAX_DURATION
from ..info import SessionInfo
from ..storage import ManagedSessionStorage, new_session_id
from ._django_blocking import blocking, unsafe
from ._django_changing import USER, attempts, take_over, user_in
from ._django_checks import Admin, Checks
from ._django_clients import client_of
from ._django_labels import RequestedLabels
from ._django_middleware import SessionMiddleware
from ._django_settings import Configured
from ._django_uses import note_use
from ._web.changing import Data, apply, apply_blocking
from ._web.clients import ClientRequest, address_and_user_agent
from ._web.cookies import parse_id
from ._web.session import Session
from ._web.state import UNSET

__all__ = [
    "Admin", "Checks", "ClientRequest", "SessionMiddleware", "SessionStore", "address_and_user_agent",
    "current_session", "storage",
]  # fmt: skip

R = TypeVar("R")

SHORTEST = 1e-6  # seconds, for a session whose expiry is in the past

_configured = Configured()
setting_changed.connect(_configured.changed)


def storage() -> ManagedSessionStorage:
    """The storage that the settings configure, such as to `revoke` the sessions of a user.

    Raises:
        ImproperlyConfigured: If they are wrong.
    """
    return _configured().manager.storage


def current_session(request: HttpRequest) -> SessionStore:
    """``request.session``, typed.

    Raises:
        InvalidArgument: If the project has another session engine.
    """
    session = getattr(request, "session", None)
    if not isinstance(session, SessionStore):
        raise InvalidArgument("the request has no session of the engine sqlsessions.integrations.django")
    return session


class SessionStore(SessionBase):  # type: ignore[misc]
    """A request's session, with the methods of Django's own backends.

    Unlike theirs, concurrent changes to different keys are both kept, a change within a value is saved
    without ``modified = True``, and `cycle_key` moves the session in one step. The user that
    ``django.contrib.auth`` logs in is the subject of the session in the storage; each login gives a new key.

    Blocking methods run on an event loop in the background, which all threads share; their async twins,
    whose names begin with ``a``, run on the caller's own.

    Args:
        session_key: The id in the cookie of the request.

    Attributes:
        candidates: The ids in the cookies of the request, if it has several.
        meta: The ``META`` of the request, for a ``client_info``; None keeps nothing.
        ended_late: Whether it was deleted after another request had ended it, which cleared the cookie.

    Raises:
        ImproperlyConfigured: If the settings are wrong.
    """

    _session_key: str | None
    candidates: Sequence[str] = ()
    meta: Mapping[str, Any] | None = None
    ended_late = False

    def __init__(self, session_key: str | None = None) -> None:
        self._manager, self._payloads, self._anonymous_age = _configured()
        self._stored: Session | None = None
        self._modified = self._watched = False
        self._logged_in = self._has_new_key = False
        self._labels = RequestedLabels()
        super().__init__(session_key)

    @property
    def cookie_due(self) -> bool:
        """Whether the browser needs the cookie, after a save."""
        return self._stored is None or self._stored.state.cookie_due

    @property
    def is_late(self) -> bool:
        """Whether another request gave the session a new key, or ended it, before this one read it."""
        return self._stored is not None and self._stored.state.moved

    @property
    def modified(self) -> bool:
        """Whether the session is to be saved: it was assigned to, or a value within it changed."""
        if self._modified or not self._watched or self._stored is None:
            return bool(self._modified)
        state = self._stored.state
        return not self._payloads.unchanged(self._payloads.encode(self._session_cache, state), state)

    @modified.setter
    def modified(self, value: bool) -> None:
        if self._modified and not value:
            self._watched = False  # not to be saved, whatever its values
        self._modified = value

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        self._logged_in = self._logged_in or key == USER

    async def aset(self, key: str, value: Any) -> None:
        """Set a value; that of the user's id is a login."""
        await super().aset(key, value)
        self._logged_in = self._logged_in or key == USER

    async def aload(self) -> dict[str, Any]:
        """The data; empty if the session is gone or got a new key. The old key is not used again.

        Raises:
            StorageUnavailable: If it cannot be read.
        """
        self._stored = None
        stored = await self._read()
        if stored.state.moved:  # with its key, the middleware leaves the cookie alone
            self._stored = stored
            return {}
        if stored.info is None:
            self._session_key = None
            return {}
        self._stored, self._watched = stored, True
        return stored.plain()

    async def acreate(self) -> None:
        """Store the data as a new session, under a new key.

        Raises:
            StorageUnavailable: If it could not be stored.
        """
        data = await self._aget_session(no_load=True)
        stored = self._open()
        self._give(stored, data)
        await self._manager.writer.create(stored)
        self._stored = stored
        self._labels.settle()
        self._take_key(stored)

    async def asave(self, must_create: bool = False) -> None:
        """Store what changed, merged with what other requests stored since the session was read.

        A login is stored even if the session was ended, or given a new key, since it was read: as a session
        of its own. Other changes follow a session to its new key if its user is the same; it is an error all
        the same, since this request must not give the browser a key. A session whose last key was deleted
        ends, and Django's middleware, which keeps a session that is empty, gets a new one.

        Args:
            must_create: Whether to make a new session, under a new key.

        Raises:
            UpdateError: If the session was ended, or given a new key, since it was read.
            CreateError: If ``must_create``, and this one was stored before.
            StorageUnavailable: If it could not be stored.
        """
        if must_create and self._stored is not None and self._stored.info is not None:
            raise CreateError
        data = await self._aget_session(no_load=must_create)
        if must_create or self.session_key is None:
            await self.acreate()
            return
        stored = await self._current()
        given, before = dict(data), stored.info
        self._give(stored, data)
        if before is None and not stored.logs_in:
            raise UpdateError
        if self._logged_in and not self._has_new_key:
            stored.regenerate()
        await self._manager.commit(stored)
        info = stored.info
        if info is None and stored.state.clear_due:  # it ended, as it is empty
            await self.acreate()
            return
        if stored.state.vanished or info is None:
            raise UpdateError
        if stored.state.id != self.session_key:
            self._take_key(stored)
        elif before and info.version == before.version and not await self.aexists(stored.state.id):
            raise UpdateError
        self._logged_in = False
        self._labels.settle()
        take_over(stored.plain(), given, data)

    async def achange(self, function: Callable[[Data], Any]) -> Any:
        """Change the session as it is stored now, such as a counter that parallel requests increase.

        The function changes a dict that has the data as it is stored. If another request writes the session
        meanwhile, it is called again, so that it must do nothing else; of its calls one takes effect. What
        this request changed before is saved first. Without a session, one is begun. Returns what it returned.

        Raises:
            SessionInterrupted: If the session ended meanwhile, or another user has it; nothing was changed.
            StorageUnavailable: If it could not be stored, or others use it for more than ten seconds.
            InvalidArgument: If the function logs in or out, or changes the session in another way.
        """
        return await apply(attempts(self, self._manager.changing, self._current), function)

    @unsafe
    def change(self, function: Callable[[Data], R]) -> R:
        """The blocking twin of `achange`; the function is called in this thread, and must not be async."""
        return apply_blocking(attempts(self, self._manager.changing, self._current), function)

    async def acycle_key(self) -> None:
        """Give the session a new key; the old one is refused from then on.

        If the session was ended, or given a new key, since it was read, it gets none: to save it is an error
        then, unless a user logs in.

        Raises:
            StorageUnavailable: If it could not be done.
        """
        await self._aget_session()
        if self.session_key is None:
            await self.acreate()
            return
        stored = await self._current()
        if stored.info is not None:
            stored.regenerate()  # its data is stored with the rest of the request's
            await self._manager.commit(stored)
        if stored.info is None or stored.state.vanished:
            self.modified = True
        else:
            self._take_key(stored)

    async def adelete(self, session_key: str | None = None) -> None:
        """End a session: the one with this key, or else this one."""
        key = self.session_key if session_key is None else session_key
        stored = self._stored
        if stored is None or stored.state.id != key:
            stored = self._open(key)
        else:
            self._stored = None
        presented = bool(stored.state.candidates)
        await self._manager.end(stored)
        self.ended_late = presented and not stored.state.clear_due

    async def aexists(self, session_key: str | None) -> bool:
        """Whether there is a live session with this key."""
        key = parse_id(session_key)
        return key is not None and await self._manager.storage.info(key) is not None

    @classmethod
    async def aclear_expired(cls) -> None:
        """Delete the sessions that have expired, as ``manage.py clearsessions`` does."""
        await storage().purge()

    async def ainfo(self) -> SessionInfo | None:
        """Its `SessionInfo`; None for a new session. Its key is that of this device in a list of sessions."""
        await self._aget_session()
        return None if self._stored is None else self._stored.info

    async def alabels(self) -> tuple[str, ...]:
        """Further names of the session, for the storage's `sessions` and ``revoke_label``, as of a tenant: at most 16.

        Set all of them, by `aset_labels`, after the login: they go with the user. They move with a new key.
        """
        await self._aget_session()
        return self._labels.of(self._stored)

    async def aset_labels(self, labels: Collection[str]) -> None:
        """Set the labels.

        Raises:
            InvalidArgument: If one holds not 1 to 255 characters, or there are more than 16.
            InvalidArgumentType: If it is no collection of strings.
        """
        await self._aget_session()
        if self._labels.set(self._stored, labels):
            self.modified = True

    def clear(self) -> None:
        """Drop all data, and the labels."""
        super().clear()
        self._labels.drop()

    async def alist_sessions(self) -> list[SessionInfo]:
        """The live sessions of the user who is logged in, the newest first; none if nobody is."""
        return [info async for info in self._manager.listing.of(await self._owned())]

    async def aend_session(self, key: str) -> bool:
        """End a session of the same user by its `SessionInfo.key`; whether there was one."""
        return await self._manager.listing.end(await self._owned(), key)

    async def aend_other_sessions(self) -> int:
        """End all sessions of the same user but this one; the number of them."""
        return await self._manager.listing.end_others(await self._owned())

    load = blocking(aload)
    create = blocking(acreate)
    save = blocking(asave)
    cycle_key = blocking(acycle_key)
    delete = blocking(adelete)
    exists = blocking(aexists)
    clear_expired: Any = classmethod(blocking(aclear_expired.__func__))  # type: ignore[attr-defined]
    list_sessions = blocking(alist_sessions)
    info = property(blocking(ainfo), doc=ainfo.__doc__)
    set_labels = blocking(aset_labels)
    labels = property(blocking(alabels), set_labels, doc=alabels.__doc__)
    end_session = blocking(aend_session)
    end_other_sessions = blocking(aend_other_sessions)
    listed, alisted = list_sessions, alist_sessions  # their names in earlier versions
    end_listed, aend_listed = end_session, aend_session
    end_others, aend_others = end_other_sessions, aend_other_sessions

    def get_session_cookie_age(self) -> int:
        """Seconds after its last change that the session ends, unless it has an expiry of its own."""
        if self._anonymous_age is not None and USER not in getattr(self, "_session_cache", {}):
            return self._anonymous_age
        return super().get_session_cookie_age()  # type: ignore[no-any-return]

    _get_new_session_key = staticmethod(new_session_id)

    async def _aget_new_session_key(self) -> str:
        return new_session_id()

    def note_use(self) -> None:
        """Note that the session was read, as the storage's ``touch_every`` says; for the middleware."""
        note_use(self._manager.writer, self._stored)

    def _open(self, *keys: str | None) -> Session:
        stored = self._manager.open(*(self.candidates if {*keys} & {*self.candidates} else keys))
        if self.meta is not None and self._manager.client_info is not None:
            stored.state.client = partial(self._manager.client_info, client_of(self.meta))
        return stored

    async def _read(self) -> Session:
        stored = self._open(self.session_key)
        await self._manager.load(stored)
        if stored.state.id is not None or stored.state.moved:
            self._session_key = stored.state.from_cookie
        return stored

    async def _current(self) -> Session:
        """The session as it was read or written last."""
        state = None if self._stored is None else self._stored.state
        if state is None or (state.id or state.from_cookie) != self.session_key:
            self._stored = await self._read()
        return cast(Session, self._stored)

    async def _owned(self) -> Session:
        """The same, with the user who is now logged in, if any, as its subject."""
        data = await self._aget_session()
        stored = await self._current()
        self._set_subject(stored, user_in(data))
        return stored

    def _give(self, stored: Session, data: dict[str, Any]) -> None:
        """Set the data to be stored, with the subject and expiry that follow from it."""
        stored.fill(data)
        self._set_subject(stored, user_in(data))
        self._labels.give(stored)
        now = timezone.now()
        expiry = self.get_expiry_date(modification=now, expiry=data.get("_session_expiry"))
        age: float = (expiry - now).total_seconds()
        stored.set_expiry(min(max(age, SHORTEST), MAX_DURATION), browser=self.get_expire_at_browser_close())

    def _set_subject(self, stored: Session, subject: str | None) -> None:
        """Set whose session it is, which is a login unless it was theirs before."""
        owner = None if stored.info is None else stored.info.subject
        stored.state.subject = subject if self._logged_in or subject != owner else UNSET

    def _take_key(self, stored: Session) -> None:
        self._session_key = stored.state.id
        self._has_new_key = self.modified = True
        self._logged_in = False


if settings.configured and __name__ == settings.SESSION_ENGINE:
    _configured()  # so that wrong settings are found at the start
