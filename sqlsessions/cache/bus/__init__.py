"""The bus: carries notices of changed sessions between the caches of several processes."""

from .base import Bus, BusStatistics, HasBus, Notice, Subscriber, subscribed
from .listening import Line, ListeningBus
from .task import TaskBus

__all__ = [
    "Bus",
    "BusStatistics",
    "HasBus",
    "Line",
    "ListeningBus",
    "Notice",
    "Subscriber",
    "TaskBus",
    "subscribed",
]
