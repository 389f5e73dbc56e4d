"""What Django's settings ask for."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from ..errors import InvalidArgument, InvalidArgumentType
from ..sql import SqlSessionStorage
from ..storage import ManagedSessionStorage
from ._web.cookies import Cookie
from ._web.manager import SessionManager
from ._web.payloads import Payloads
from ._web.portal import spawn

JSON = "django.contrib.sessions.serializers.JSONSerializer"


class Engine(NamedTuple):
    """What serves the sessions of a project."""

    manager: SessionManager
    payloads: Payloads


class Configured:
    """The manager that the settings configure, made when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._storage: ManagedSessionStorage | None = None

    def __call__(self) -> Engine:
        """The engine, made if there is none yet.

        Raises:
            ImproperlyConfigured: If the settings are wrong.
        """
        with self._lock:
            if self._engine is None:
                self._engine = self._made()
            return self._engine

    def changed(self, *, setting: str, **_: Any) -> None:
        """Make it again when a test overrides a setting, and close the storage that is not used any more."""
        if setting not in ("SQLSESSIONS", "SESSION_SERIALIZER"):
            return
        with self._lock:
            self._engine = None
            if setting == "SQLSESSIONS" and self._storage is not None:
                if self._owned:
                    spawn(self._storage.aclose())  # without waiting, as it may wait for this event loop
                self._storage = None

    def _made(self) -> Engine:
        chosen = settings.SESSION_SERIALIZER
        serializer = None if chosen == JSON else import_string(chosen)()
        try:
            if self._storage is None:
                setting: Any = getattr(settings, "SQLSESSIONS", None)
                self._storage, self._owned = made_storage(setting), "url" in setting
            # Django's middleware writes the cookie, and its settings determine the expiry.
            manager = SessionManager(
                self._storage, Cookie(), max_age=None, serializer=serializer, rotate_on_login=False
            )
            return Engine(manager, Payloads(serializer))
        except (InvalidArgument, InvalidArgumentType) as error:
            raise ImproperlyConfigured(f"the setting SQLSESSIONS: {error}") from error


def made_storage(setting: Any) -> ManagedSessionStorage:
    """The storage that the setting SQLSESSIONS asks for.

    Raises:
        InvalidArgument: If it is wrong.
    """
    if not isinstance(setting, Mapping) or ("url" in setting) == ("storage" in setting):
        raise InvalidArgument("it must be a dict that has either 'url' or 'storage'")
    options = dict(setting)
    if "storage" in options:
        made = options.pop("storage")
        if options:
            raise InvalidArgument("beside 'storage' there is no other key: give the storage its arguments")
        made = import_string(made) if isinstance(made, str) else made
        return made() if callable(made) else made  # type: ignore[no-any-return]
    if "ttl" in options:
        raise InvalidArgument("'ttl' is Django's own setting SESSION_COOKIE_AGE")
    known = [*inspect.signature(SqlSessionStorage).parameters][1:]
    known.remove("ttl")
    if unknown := sorted(str(name) for name in options.keys() - {"url", *known}):
        raise InvalidArgument(f"there is no key {unknown[0]!r}; beside 'url' there are {', '.join(known)}")
    return SqlSessionStorage(options.pop("url"), **options)
