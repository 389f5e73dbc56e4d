"""The last write of a request whose handler failed or was cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from ..._tasks import wait_although_cancelled

logger = logging.getLogger("sqlsessions")


async def write_last(saving: Coroutine[Any, Any, None]) -> None:
    """Write the session of a WebSocket or stream that ends by an error, although its task may be cancelled.

    An error of its own is logged, as the caller has another one to raise.

    Args:
        saving: Writes it.
    """
    task = asyncio.ensure_future(saving)
    await wait_although_cancelled(task)
    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
        logger.error("a session could not be written: %s", error)
