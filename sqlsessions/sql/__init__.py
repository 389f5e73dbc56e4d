"""Sessions in a SQL database."""

from .models import metadata
from .storage import SqlSessionStorage

__all__ = ["SqlSessionStorage", "metadata"]
