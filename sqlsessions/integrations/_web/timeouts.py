"""How long sessions and their cookies last, as the arguments of an integration say."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from ...errors import InvalidArgument
from ...records import duration
from ...storage import DEFAULT, Default, Duration

SECOND = 1_000_000
"""Microseconds."""

logger = logging.getLogger("sqlsessions")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The checked arguments, durations in microseconds.

    Attributes:
        idle: Idle timeout of sessions; DEFAULT is the storage's own, None is none.
        absolute: Their absolute timeout; None is the storage's own.
        persistent: Whether the cookie outlasts the browser.
        anonymous: Idle timeout of sessions without a subject; DEFAULT is that of all others, None is none.
    """

    idle: int | Default | None = DEFAULT
    absolute: int | None = None
    persistent: bool = True
    anonymous: int | Default | None = DEFAULT

    @classmethod
    def checked(
        cls,
        ttl: Duration | Default | None,
        absolute_timeout: Duration | None,
        *,
        expire_at_browser_close: bool = False,
        max_age: Duration | Default | None = DEFAULT,
        anonymous_ttl: Duration | Default | None = DEFAULT,
    ) -> Timeouts:
        """Check the arguments of an integration.

        Args:
            ttl: Seconds after its last use that a session ends; DEFAULT is the storage's own timeout, None is
                no timeout.
            absolute_timeout: Seconds after its creation that it ends; None is the storage's own.
            expire_at_browser_close: Whether the cookie ends when the browser is closed.
            max_age: The former name of ``ttl``, where None was the storage's timeout and a cookie that ends
                with the browser. A storage means the absolute timeout by this word.
            anonymous_ttl: ``ttl`` of sessions without a subject; DEFAULT is ``ttl``.

        Raises:
            InvalidArgument: If a duration is not above 0 and at most 1,000 years, or the arguments
                contradict each other.
            InvalidArgumentType: If an argument is of the wrong type.
        """
        if max_age is not DEFAULT:
            if ttl is not DEFAULT:
                raise InvalidArgument("give ttl alone: max_age is its former name")
            instead = "expire_at_browser_close=True" if max_age is None else "ttl"
            logger.warning("max_age is deprecated and will be refused: use %s instead", instead)
            ttl, expire_at_browser_close = (DEFAULT, True) if max_age is None else (max_age, False)
        absolute = duration("absolute_timeout", absolute_timeout)
        idle = _checked("ttl", ttl, absolute)
        anonymous = _checked("anonymous_ttl", anonymous_ttl, absolute)
        return cls(idle, absolute, not expire_at_browser_close, anonymous)

    def over(self, default: int | Default | None) -> Timeouts:
        """These over a storage whose idle timeout is given in microseconds; DEFAULT if it does not tell.

        Raises:
            InvalidArgument: If sessions without a subject have a timeout of their own, and it is not known which one a
                login is to give them.
        """
        if self.anonymous is DEFAULT or self.idle is not DEFAULT:
            return self
        if default is DEFAULT:
            raise InvalidArgument("anonymous_ttl needs a ttl beside it: the storage does not tell its own")
        return replace(self, idle=default)

    def idle_of(self, subject: str | None) -> int | Default | None:
        """The idle timeout of sessions of a subject, or of those without one."""
        return self.idle if subject is not None or self.anonymous is DEFAULT else self.anonymous


def _checked(name: str, ttl: Duration | Default | None, absolute: int | None) -> int | Default | None:
    idle = ttl if ttl is DEFAULT else duration(name, ttl)
    if isinstance(idle, int) and absolute is not None and idle > absolute:
        raise InvalidArgument(f"{name} is above absolute_timeout: no session would last as long as it says")
    return idle
