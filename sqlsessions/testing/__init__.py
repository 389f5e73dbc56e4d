"""Pytest suites for storages and integrations of others: `StorageContract`, `IntegrationContract`."""

import pkgutil

from ..errors import missing

try:
    import pytest
except ModuleNotFoundError as error:
    raise missing(error, "sqlsessions.testing", "test") from error

# Before they are imported, so that a failed assertion shows its values.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))

from ._by_key import ByKey
from ._concurrency import Concurrency
from ._conditions import Conditions
from ._consumers import Consumers
from ._ended import Ended
from ._ids import Ids
from ._integration import IntegrationContract
from ._integration.browser import Browser
from ._integration.gate import Gate
from ._integration.http import HttpRequest, HttpResponse, Send, asgi, wsgi
from ._labels import Labels
from ._lifetime import Lifetime
from ._loops import Loops
from ._providers import Providers
from ._purging import Purging
from ._rotation import Rotation
from ._round_trips import RoundTrips
from ._streams import Streams
from ._subjects import Subjects
from ._touching import Touching
from ._uses import Uses
from .clock import ManualClock
from .spy import SpyStorage

__all__ = [
    "Browser",
    "Gate",
    "HttpRequest",
    "HttpResponse",
    "IntegrationContract",
    "ManualClock",
    "Send",
    "SpyStorage",
    "StorageContract",
    "asgi",
    "wsgi",
]


class StorageContract(
    RoundTrips,
    Providers,
    Consumers,
    Ids,
    Lifetime,
    Touching,
    Uses,
    Rotation,
    Conditions,
    Streams,
    Concurrency,
    Subjects,
    Labels,
    Purging,
    Ended,
    ByKey,
    Loops,
):
    """The contract, to be subclassed in a test module; needs the extra ``sqlsessions[test]``.

    ```python
    from sqlsessions.testing import ManualClock, StorageContract

    class TestMyStorage(StorageContract):
        async def create_storage(self, clock: ManualClock) -> MyStorage:
            return MyStorage(clock=clock)
    ```

    ``create_storage`` is called once for each test, in its event loop, and gives an empty storage,
    which is closed after the test if it has ``aclose``. What else it needs comes from fixtures of
    the subclass that set attributes:

    ```python
        @pytest.fixture(autouse=True)
        def _directory(self, tmp_path):
            self.directory = tmp_path
    ```

    A plain `SessionStorage` runs the tests of the three verbs; those of the managed interface are
    skipped. It works with pytest-asyncio in strict and in auto mode, each test in an event loop of
    its own. Time is the `ManualClock`'s, so no test waits for it.

    Attributes:
        inline_limit: The most bytes that the storage keeps in one piece; blobs just below, at and
            above it are tried. 64 KiB unless set.
        chunk_size: The size of the pieces of larger blobs; blobs around it, and of three and a half
            pieces, are tried. 256 KiB unless set.
        many: How many sessions are enough to fill several pages of a list, should the storage read it in pages. 1,100
            unless set.
        keep_ended: For how many seconds the storage keeps records of sessions that have ended, if it is a `KeepsEnded`
            that was asked to; None, the default, is not at all.
        touch_every: After how many seconds the storage notes the use of a session by a touch that gains nothing else, if it
            was asked to; None, the default, is never. At least 100, of which the other tests stay clear.
        refuses_when_closed: Whether a closed storage must raise `StorageUnavailable`. False unless
            set: a storage that holds nothing open may go on to work.
    """
