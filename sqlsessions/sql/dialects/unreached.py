"""Errors of drivers that reached no database, in sentences that say what to do."""

from __future__ import annotations

import re
from errno import ECONNREFUSED
from socket import gaierror

NO_ADDRESS = "the URL's host has no address: correct the URL, or the name service"
NOTHING_THERE = (
    "nothing takes connections at the URL's host and port: start the database there, or correct the URL"
)
UNKNOWN_HOST = re.compile(r"failed to resolve host|Name or service not known")
REFUSED = re.compile(rf"Connection refused|\[Errno {ECONNREFUSED}\]")


def unreached(error: BaseException) -> str | None:
    """Why an address led to no database, whichever driver says so; None for any other error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, gaierror) or UNKNOWN_HOST.search(str(cause)):
            return NO_ADDRESS
        if isinstance(cause, ConnectionRefusedError) or REFUSED.search(str(cause)):
            return NOTHING_THERE
        cause = cause.__cause__
    return None
