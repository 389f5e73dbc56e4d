"""`CacheStorage`: keeps recently used sessions of another storage in this process's memory."""

from .entries import CacheStatistics
from .storage import CacheStorage

__all__ = ["CacheStatistics", "CacheStorage"]
