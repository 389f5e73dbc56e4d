"""The greenlet bridge, by itself; what it is for is tested with the frameworks."""

from __future__ import annotations

from typing import Any
from weakref import ref

import pytest

from sqlsessions.integrations._web.greenlets import GreenletBridge


class Request:
    """What a weak reference can be made to."""


async def passed_on(request: Request, error: type[Exception] | None) -> Request:
    if error is not None:
        raise error
    return request


@pytest.mark.parametrize("error", [None, ValueError])
async def test_nothing_of_a_request_is_kept_when_it_is_over(error: type[Exception] | None) -> None:
    for _ in range(3):  # with a new greenlet, and with one that was used before
        request: Any = Request()
        over = ref(request)
        try:
            assert await GreenletBridge("").run(passed_on, request, error) is request
        except ValueError:
            assert error is ValueError
        del request
        assert over() is None
