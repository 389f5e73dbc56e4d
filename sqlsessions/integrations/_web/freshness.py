"""Freshness: requests that need a recent login, and the answer to those that lack one."""

from __future__ import annotations

import json
from typing import Any

from ..._validation import required_duration
from ...errors import ReauthenticationRequired
from ...records import microseconds
from ...storage import Duration
from .session import Session

STATUS = 401
WEBSOCKET_CODE = 1008  # policy violation: RFC 6455, section 7.4.1
MEDIA_TYPE = "application/problem+json"


def check_fresh(session: Session, max_age: Duration) -> None:
    """Check that the user of a session logged in recently.

    Args:
        session: The session, which is loaded.
        max_age: The most seconds since the login, or a timedelta.

    Raises:
        ReauthenticationRequired: If the user did not, or nobody is logged in.
        InvalidArgument: If ``max_age`` is not above 0 and at most 1,000 years.
        InvalidArgumentType: If it is not a duration.
    """
    longest = required_duration("max_age", max_age)
    session.mark_accessed()
    since = None if session.subject is None else session.state.authenticated
    if since is None or microseconds(session.state.clock) - since > longest:
        seconds = longest / 1_000_000
        raise ReauthenticationRequired(int(seconds) if seconds.is_integer() else seconds)


def challenge(error: ReauthenticationRequired, session: Session) -> dict[str, str]:
    """The header that says what is missing, in the words of RFC 9470; for a cookie no scheme is registered."""
    scheme = "Session" if session.state.bearer is None else "Bearer"
    said = f'error="insufficient_user_authentication", max_age="{error.max_age}"'
    return {"WWW-Authenticate": f"{scheme} {said}"}


def problem(error: ReauthenticationRequired) -> str:
    """The body of the answer (RFC 9457)."""
    details: dict[str, Any] = {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": STATUS,
        "detail": str(error),
        "max_age": error.max_age,
    }
    return json.dumps(details)
