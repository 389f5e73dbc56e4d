"""The interface of a bus, and of what subscribes to one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable


class Notice(NamedTuple):
    """A session was changed.

    Attributes:
        digest: The session.
        version: What it was changed to; 0 if it ended or moved, None if that is not known.
    """

    digest: bytes
    version: int | None


class Subscriber(Protocol):
    """Gets the notices of a bus, in any thread."""

    def changed(self, notices: Iterable[Notice]) -> None:
        """Sessions were changed, in this order."""

    def missed(self) -> None:
        """Notices may have been missed."""


@dataclass(frozen=True, slots=True)
class BusStatistics:
    """How a bus is.

    Attributes:
        proven: Whether notices are known to arrive now.
        lag: Seconds that the last heartbeat took to come back; None if there was none.
        gaps: How often notices may have been missed.
        notices: How many arrived.
        obstacle: Why it is not proven, as far as that is known.
    """

    proven: bool
    lag: float | None
    gaps: int
    notices: int
    obstacle: str | None = None


class Bus(ABC):
    """Carries notices of changed sessions between processes.

    What is held of a session is current while `state` is what it was before the session was read, and no
    notice of the session has come since.
    """

    def __init__(self) -> None:
        self._subscribers: list[Subscriber] = []
        self._notices = 0

    @abstractmethod
    def state(self) -> object | None:
        """What stays the same while nothing was changed but what notices told of.

        None while that is not known: the bus is down, late or not proven yet. Called for each read in an event
        loop, and never waits.
        """

    def last_state(self) -> object | None:
        """The state as it was not long ago, for what is read or written from now on; spares a query to get it."""
        return self.state()

    @property
    @abstractmethod
    def statistics(self) -> BusStatistics:
        """How the bus is."""

    async def publish(self, digests: Collection[bytes]) -> None:  # noqa: ARG002 (for overriding)
        """Tell the other processes that sessions were changed, before their callers know.

        For a bus apart from the database; one of the database itself does that as it commits.
        """
        return None

    def subscribe(self, subscriber: Subscriber) -> None:
        """Notify a subscriber from now on."""
        self._subscribers.append(subscriber)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Notify it no more, if it was notified."""
        if subscriber in self._subscribers:
            self._subscribers.remove(subscriber)

    async def aclose(self) -> None:
        """Close what the bus opened."""
        return None

    def _deliver(self, notices: Collection[Notice]) -> None:
        self._notices += len(notices)
        for subscriber in self._subscribers:
            subscriber.changed(notices)

    def _deliver_missed(self) -> None:
        for subscriber in self._subscribers:
            subscriber.missed()


@runtime_checkable
class HasBus(Protocol):
    """A storage whose database carries notices."""

    def bus(self) -> Bus | None:
        """The bus of its database; None if no other process can reach that."""


class _Keys:
    """Calls a function with the keys of sessions that were changed."""

    def __init__(self, callback: Callable[[Collection[str] | None], None]) -> None:
        self._callback = callback

    def changed(self, notices: Iterable[Notice]) -> None:
        self._callback([notice.digest.hex() for notice in notices])

    def missed(self) -> None:
        self._callback(None)


def subscribed(bus: Bus | None, callback: Callable[[Collection[str] | None], None]) -> Callable[[], None]:
    """Subscribe a function to a bus, if there is one; see `ManagedSessionStorage.subscribe`."""
    if bus is None:
        return lambda: None
    subscriber = _Keys(callback)
    bus.subscribe(subscriber)
    with suppress(RuntimeError):  # no event loop runs here: it starts with the first read
        bus.state()
    return partial(bus.unsubscribe, subscriber)
