"""Everything that sqlsessions raises: one root, few leaves.

No message holds a session id or session data, so every error is safe to log.
"""

from __future__ import annotations


class SessionError(Exception):
    """The root of every error that sqlsessions raises."""


class SessionNotFound(SessionError, LookupError):
    """No live session has this id: it never existed, expired, or was invalidated."""


class SessionConflict(SessionError):
    """A condition of the call did not hold, and nothing was changed.

    Raised by a conditional write (``if_match``) whose version is not the live one, and by
    ``rotate`` when a live session already has the new id.
    """


class SessionTooLarge(SessionError, ValueError):
    """A blob passed the size limit of the storage; the old session is as it was.

    Attributes:
        limit: The largest size that the storage takes, in bytes.
        size: The bytes seen when the limit was passed; the whole blob may be larger.
    """

    def __init__(self, limit: int, size: int) -> None:
        super().__init__(
            f"session data is too large: {size} bytes seen, the limit is {limit}; "
            "store less, or raise the limit of the storage"
        )
        self.limit = limit
        self.size = size

    def __reduce__(self) -> tuple[type[SessionTooLarge], tuple[int, int]]:
        return type(self), (self.limit, self.size)


class InvalidSessionId(SessionError, ValueError):
    """The id is empty, longer than 4,096 bytes of UTF-8, or cannot be encoded."""


class InvalidArgument(SessionError, ValueError):
    """An argument has a value that is not allowed; the message names it and what is."""


class InvalidArgumentType(SessionError, TypeError):
    """An argument is of the wrong type; the message names it and what is allowed."""


class ChannelClosed(SessionError, ValueError):
    """A byte channel was used after the call that it belonged to had ended.

    A ``ValueError``, as for a closed file in Python.
    """


class SessionChanged(SessionError):
    """The version that a slow stream was reading or staging is gone.

    A superseded large version stays readable for at least 60 s; a stream that is slower than
    that may see this error, never mixed or shortened data. Start over.
    """


class SessionCorrupt(SessionError):
    """The database holds a session whose data is incomplete, so none of it is returned."""


class StorageUnavailable(SessionError):
    """The storage cannot answer now; the driver's error, if any, is the cause.

    The database is unreachable, the pool is exhausted, the disk is full, the database is
    read-only, the storage is closed or belongs to another event loop, or a memory storage is
    full.
    """


class WrongEventLoop(StorageUnavailable):
    """The storage has connections of another event loop and cannot be used in the running one.

    A caller's own engine serves one event loop; a storage that is given a URL serves any number.
    """


class SchemaOutOfDate(SessionError):
    """The tables are missing or do not fit this version: run ``sqlsessions upgrade``."""


class ArchiveDamaged(SessionError):
    """A file is no archive of sessions, or not all of one as it was written."""


class UnsupportedOperation(SessionError, NotImplementedError):
    """A layer was asked for something that the storage beneath it does not offer."""
