"""Everything that sqlsessions raises: one root, few leaves.

No message holds a session id or session data, so every error is safe to log.
"""

from __future__ import annotations

_SHOWN_KEYS = 8
_SHOWN_LENGTH = 40


class SessionError(Exception):
    """The root of every error that sqlsessions raises."""


class SessionNotFound(SessionError, LookupError):
    """No live session has this id: it never existed, expired, or was invalidated."""


class SessionConflict(SessionError):
    """A condition of the call did not hold, and nothing was changed.

    Raised by a conditional write (``if_match``) whose version is not the live one, and by
    ``rotate`` when a live session already has the new id.
    """


class TooManySessions(SessionError):
    """A subject has as many sessions as it may, and none is to end for another; nothing was changed.

    Attributes:
        limit: How many it may have.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"the subject has {limit} live sessions, as many as it may: end one of them first")
        self.limit = limit

    def __reduce__(self) -> tuple[type[TooManySessions], tuple[int]]:
        return type(self), (self.limit,)


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


class InvalidSessionData(InvalidArgument, InvalidArgumentType):
    """Session data cannot be stored so that it can be read back; nothing was written.

    The message names the keys that lead to the value, and never the value. It is both a ``ValueError`` and a
    ``TypeError``, of which JSON encoders raise one or the other.

    Attributes:
        reason: What is wrong with the value.
        path: The keys and indexes that lead to it; empty for the data as a whole.
    """

    def __init__(self, reason: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(f"session data cannot be stored: {reason}, at {_shown(path)}")
        self.reason = reason
        self.path = path

    def __reduce__(self) -> tuple[type[InvalidSessionData], tuple[str, tuple[str | int, ...]]]:
        return type(self), (self.reason, self.path)


def _shown(path: tuple[str | int, ...]) -> str:
    """A path as Python would write it, shortened."""
    keys = [f"[{_shortened(key)}]" for key in path]
    if len(keys) > _SHOWN_KEYS:
        keys[_SHOWN_KEYS - 2 : -2] = ["..."]
    return "session" + "".join(keys)


def _shortened(key: str | int) -> str:
    shown = ascii(key[:_SHOWN_LENGTH] if isinstance(key, str) else key)
    return shown if isinstance(key, int) or len(key) <= _SHOWN_LENGTH else f"{shown}..."


class SessionModelMismatch(SessionError, ValueError):
    """The data that a session holds for a model is none that the model accepts.

    It was written by another version of the model, or by other code, under the same key.

    Attributes:
        model: The name of the model.
        key: The key of its data in the session; the name of the model unless given.
    """

    def __init__(self, model: str, key: str | None = None) -> None:
        key = model if key is None else key
        super().__init__(
            f"a session's data under {key!r} is not a valid {model}; convert it, use another key, or give "
            "SessionModel invalid='defaults'"
        )
        self.model = model
        self.key = key

    def __reduce__(self) -> tuple[type[SessionModelMismatch], tuple[str, str]]:
        return type(self), (self.model, self.key)


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


class StorageClosed(StorageUnavailable):
    """The storage was used after its `aclose`."""


class SchemaOutOfDate(SessionError):
    """The tables are missing or do not fit this version: run ``sqlsessions upgrade``."""


class ArchiveDamaged(SessionError):
    """A file is no archive of sessions, or not all of one as it was written."""


class ReauthenticationRequired(SessionError):
    """A request needs a user who logged in more recently; integrations answer with status 401.

    Attributes:
        max_age: The most seconds since the login.
    """

    def __init__(self, max_age: float) -> None:
        self.max_age = max_age
        super().__init__(f"this needs a login within the last {max_age} seconds")

    def __reduce__(self) -> tuple[type[ReauthenticationRequired], tuple[float]]:
        return type(self), (self.max_age,)


class InvalidLogoutToken(SessionError, ValueError):
    """A logout token of an OpenID provider is forged, expired, for another service, or was used before."""


class ProviderUnavailable(SessionError):
    """An OpenID provider did not give its keys, without which its tokens cannot be checked."""


class UnsupportedOperation(SessionError, NotImplementedError):
    """A layer was asked for something that the storage beneath it does not offer."""


def missing(error: ModuleNotFoundError, what: str, extra: str | None) -> ModuleNotFoundError:
    """An error that names the extra, to be raised in the place of the import's own.

    Args:
        error: That of the import.
        what: What of ours was imported or made.
        extra: Its name in ``sqlsessions[...]``; None if the package is in no extra.
    """
    wanted = error.name if extra is None else f"'sqlsessions[{extra}]'"
    return ModuleNotFoundError(f"{what} needs what `pip install {wanted}` installs", name=error.name)
