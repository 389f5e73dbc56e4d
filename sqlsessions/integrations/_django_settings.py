"""What Django's settings ask for."""

from __future__ import annotations

import hmac
import inspect
import math
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils.encoding import force_bytes
from django.utils.module_loading import import_string

from ..errors import InvalidArgument, InvalidArgumentType
from ..records import required_duration
from ..sql import SqlSessionStorage
from ..storage import ManagedSessionStorage
from ._web.clients import ClientInfo
from ._web.cookies import Cookie
from ._web.manager import SessionManager
from ._web.payloads import Payloads
from ._web.portal import spawn
from ._web.timeouts import SECOND, Timeouts

SECRETS = ("SECRET_KEY", "SECRET_KEY_FALLBACKS")
KEYED_IDS = (False, "accept", "move", True)
"""What the setting's key ``keyed_ids`` may be."""
ANONYMOUS = "anonymous_ttl"
CLIENT = "client_info"
JSON = "django.contrib.sessions.serializers.JSONSerializer"


class Engine(NamedTuple):
    """What serves the sessions of a project.

    Attributes:
        anonymous_age: Seconds after their last change that sessions of guests end; None is SESSION_COOKIE_AGE.
    """

    manager: SessionManager
    payloads: Payloads
    anonymous_age: int | None


class Configured:
    """The manager that the settings configure, made when first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._keyed = False
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
        of_storage = setting == "SQLSESSIONS" or (self._keyed and setting in SECRETS)
        if not of_storage and setting != "SESSION_SERIALIZER":
            return
        with self._lock:
            self._engine = None
            if of_storage and self._storage is not None:
                if self._owned:
                    spawn(self._storage.aclose())  # without waiting, as it may wait for this event loop
                self._storage = None

    def _made(self) -> Engine:
        chosen = settings.SESSION_SERIALIZER
        serializer = None if chosen == JSON else import_string(chosen)()
        try:
            setting: Any = getattr(settings, "SQLSESSIONS", None)
            if self._storage is None:
                self._storage, self._owned = made_storage(setting), "url" in setting
                self._keyed = "keyed_ids" in setting
            # Django's middleware writes the cookie, and its settings determine the expiry.
            manager = SessionManager(
                self._storage,
                Cookie(),
                timeouts=Timeouts(),
                serializer=serializer,
                rotate_on_login=False,
                client_info=_client_info(setting),
            )
            return Engine(manager, manager.payloads, _anonymous(setting))
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
    for name in (ANONYMOUS, CLIENT):
        options.pop(name, None)
    if "storage" in options:
        made = options.pop("storage")
        if options:
            raise InvalidArgument(
                f"beside 'storage' there are only {ANONYMOUS!r} and {CLIENT!r}: give the storage its arguments"
            )
        made = import_string(made) if isinstance(made, str) else made
        return made() if callable(made) else made  # type: ignore[no-any-return]
    if "ttl" in options:
        raise InvalidArgument("'ttl' is Django's own setting SESSION_COOKIE_AGE")
    options |= _keyed(options.pop("keyed_ids", False), options)
    known = [*inspect.signature(SqlSessionStorage).parameters][1:]
    known.remove("ttl")
    if unknown := sorted(str(name) for name in options.keys() - {"url", *known}):
        raise InvalidArgument(
            f"there is no key {unknown[0]!r}; beside 'url' there are {ANONYMOUS}, {CLIENT}, keyed_ids, "
            f"{', '.join(known)}"
        )
    return SqlSessionStorage(options.pop("url"), **options)


def _anonymous(setting: Mapping[str, Any]) -> int | None:
    if ANONYMOUS not in setting:
        return None
    return math.ceil(required_duration(ANONYMOUS, setting[ANONYMOUS]) / SECOND)


def _client_info(setting: Mapping[str, Any]) -> ClientInfo | None:
    chosen = setting.get(CLIENT)
    return import_string(chosen) if isinstance(chosen, str) else chosen


def _keyed(wanted: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that keep ids under ``SECRET_KEY``, as ``keyed_ids`` says."""
    if not any(wanted is each or (isinstance(each, str) and wanted == each) for each in KEYED_IDS):
        raise InvalidArgument("'keyed_ids' must be True, 'move', 'accept' or False")
    if wanted is False:
        return {}
    if taken := options.keys() & {"keys", "accept"}:
        raise InvalidArgument(f"'keyed_ids' sets {min(taken)!r} itself: give one of them")
    namespace = options.get("namespace")
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    first, *others = dict.fromkeys(_derived(secret) for secret in secrets)
    fallbacks = [(namespace, others)] if others else []
    if wanted == "accept":
        return {"accept": [(namespace, [first, *others])]}
    unkeyed = [(namespace, None)] if wanted == "move" else []
    return {"keys": [first], "accept": [*fallbacks, *unkeyed]}


def _derived(secret: str | bytes) -> bytes:
    # HKDF-Extract (RFC 5869), since a SECRET_KEY has any length.
    return hmac.digest(b"sqlsessions 1 Django ids", force_bytes(secret), "sha256")
