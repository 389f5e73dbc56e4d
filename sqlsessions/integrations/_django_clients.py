"""The client of a request of Django's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http.request import HttpHeaders

from ._web.clients import ClientRequest


def client_of(meta: Mapping[str, Any]) -> ClientRequest:
    """What the ``META`` of a request tells of its client. The request itself would refer to its session, and so to itself."""

    def values(name: str) -> list[str]:
        value = HttpHeaders(meta).get(name)
        return [] if value is None else [value]

    return ClientRequest(values, lambda: meta.get("REMOTE_ADDR") or None)
