"""`State`: what is known of a request's session besides its data."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ...records import Clock
from .sources import Source
from .transports import Bearer

UNSET: Any = object()
"""The value of what was not requested."""


class State:
    """The state of a request's session besides its data.

    Attributes:
        candidates: The ids that the request presents, as far as they could be ids of ours.
        bearer: The transport of the session's id; None is the cookie.
        from_cookie: The one of them that is used: the last, until the session was read. None if there is
            none, and once its session is to be ended.
        id: The id of the stored session; None while the session is new.
        raw: The data as it was read or written last, encoded.
        raw_is_ours: Whether the serializer of this process encoded ``raw``.
        stale: Whether the cookie of the request belongs to no session.
        began: When the request began, in seconds since 1970.
        clock: Gives the time in seconds.
        moved: Whether another request gave up the id in the cookie, and its response has another one, or none.
        vanished: Whether another request ended the session, or changed its id, since it was read.
        key: The key under which the session is stored, if another request changed its id, which is not known
            here; else None.
        ended: Whether the session was found to have ended when it was read again.
        lost: Whether changes could not be kept, as the session was gone.
        drop_logged: Whether it was logged that changes were dropped.
        queued: The key of the session whose other requests wait for this one; None if they do not.
        ending: The id of the session to end when this one is written.
        answered: Whether it is too late to set a cookie.
        cookie_until: Until when the browser keeps the cookie, in microseconds since 1970, if the session was
            written later than its cookie; else UNSET.
        cookie_renewed: Whether that note was dropped, as the response sends the cookie again.
        cookie_due: Whether the browser needs a cookie with an id or expiry.
        clear_due: Whether the browser's cookie has to be deleted.
        cleared: Whether all data was dropped.
        emptied: Whether the request deleted all data of the session, which therefore ends.
        assigned: The keys that were assigned.
        regenerating: Whether a new id was requested.
        subject: The subject requested, or UNSET.
        named: The subject that the data named before the request changed it, if the integration looks for one.
        adopts: Whether the subject requested is one that the data has named for longer, and no login.
        labels: The labels requested, or UNSET.
        client: Gives what to keep of the client; None keeps nothing.
        authenticated: When the user logged in, in microseconds since 1970; None if that is not known.
        authenticating: Whether this request set ``authenticated``.
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
    bearer: Bearer | None = None
    raw: bytes = b""
    raw_is_ours: bool = False
    stale: bool = False
    moved: bool = False
    vanished: bool = False
    key: str | None = None
    ended: bool = False
    lost: bool = False
    drop_logged: bool = False
    queued: str | None = None
    ending: str | None = None
    answered: bool = False
    cookie_until: Any = UNSET
    cookie_renewed: bool = False
    cookie_due: bool = False
    clear_due: bool = False
    cleared: bool = False
    emptied: bool = False
    regenerating: bool = False
    subject: Any = UNSET
    named: str | None = None
    adopts: bool = False
    labels: Any = UNSET
    client: Callable[[], Mapping[str, str] | None] | None = None
    authenticated: int | None = None
    authenticating: bool = False
    ttl: Any = UNSET
    browser: bool | None = None
    expiry_requested: bool = False
    expiry_dropped: bool = False
    cookie_requested: bool = False
    accessed_since: bool = False
    sources: tuple[Source, ...] = ()

    def __init__(self, candidates: tuple[str, ...] = (), clock: Clock = time.time) -> None:
        self.candidates = candidates
        self.clock, self.began = clock, clock()
        self.from_cookie = candidates[-1] if candidates else None
        self.assigned: set[str] = set()

    def stored(self, payload: bytes) -> None:
        """Note the data that was written."""
        self.raw, self.raw_is_ours = payload, True

    def settle(self) -> None:
        """Forget what was requested: it is done."""
        self.cleared = self.emptied = self.regenerating = self.expiry_requested = self.cookie_requested = (
            False
        )
        self.subject = self.labels = UNSET
        if self.authenticating:
            self.authenticating = self.adopts = False
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
        self.clear_due = self.stale = self.moved = self.vanished = self.ended = False
        self.key = None
        self.settle()

    def drop_expiry(self) -> None:
        """Forget the session's own expiry, for that of new sessions."""
        self.expiry_dropped = self.expiry_dropped or self.ttl is not UNSET
        self.cookie_requested = self.cookie_requested or self.expiry_dropped
        self.ttl, self.browser, self.expiry_requested = UNSET, None, True

    def authenticate(self, time: int | None) -> None:
        """Set when the user logged in; None is nobody."""
        self.authenticated, self.authenticating = time, True

    def end(self, *, stale: bool) -> None:
        """Note that the session is gone; ``stale`` is whether its cookie belongs to no session."""
        self.id = self.key = None
        self.stored(b"")
        self.ended, self.stale = True, stale
        self.vanished = self.cookie_due = False

    def restart(self) -> None:
        """Begin a new session, and have the present one ended."""
        self.ending = self.ending or self.id or self.from_cookie
        self.id = self.from_cookie = None
        self.stored(b"")
        self.moved = self.vanished = self.cookie_due = self.ended = False
        self.ttl, self.browser, self.cookie_until, self.authenticated = UNSET, None, UNSET, None
        for source in self.sources:
            source({})  # whose changes up to now go with the session
        self.settle()
