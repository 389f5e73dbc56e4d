"""`IntegrationContract`: the contract of a framework integration as a pytest suite."""

from __future__ import annotations

from .bearers import Bearers
from .changes import Changes
from .cookies import Cookies
from .costs import Costs
from .expiry import Expiry
from .failures import Failures
from .freshness import Freshness
from .guests import Guests
from .ids import Ids
from .keyed import Keyed
from .logout import Logout
from .moves import Moves
from .uses import Uses

__all__ = ["IntegrationContract"]


class IntegrationContract(
    Ids, Moves, Costs, Changes, Logout, Expiry, Cookies, Bearers, Freshness, Keyed, Guests, Uses, Failures
):
    """The contract, to be subclassed in a test module; needs the extra ``sqlsessions[test]``.

    ```python
    from contextlib import asynccontextmanager

    from sqlsessions.testing import IntegrationContract, asgi

    class TestMyIntegration(IntegrationContract):
        @asynccontextmanager
        async def client(self, storage, gate, **settings):
            yield asgi(standard_application(storage, gate, **settings))
    ```

    ``client`` is an async context manager that serves the standard application, with sessions in
    ``storage``, and gives a `Send`: `asgi` and `wsgi` make one of an application; for any other server,
    write a function that sends an `HttpRequest` and returns the `HttpResponse`. It is entered in the
    event loop of the test. The application has these routes, whose parameters are in the query string:

    | Route | What it does |
    |---|---|
    | ``GET /untouched`` | Nothing; it does not look at its session. |
    | ``GET /show`` | Responds with the session's data as a JSON object, without keys of the framework. |
    | ``POST /put?key=value`` | Assigns every parameter, as text, to its key. |
    | ``POST /nest`` | Appends 1 to the list under ``list``, in place; makes it if it is missing. |
    | ``POST /login?user=7&key=value`` | Logs a user in, whose id has digits only; then as ``/put``. |
    | ``POST /logout`` | Logs out: ends the session. |
    | ``POST /regenerate`` | Gives the session a new id. |
    | ``POST /replace?key=value`` | Puts a session with these keys alone in the place of the old one. |
    | ``POST /remember?seconds=60`` | Gives the session an idle timeout of its own. |
    | ``POST /leave?key=value`` | As ``/put``; responds with a redirect to ``/show``. |
    | ``POST /refuse?key=value`` | As ``/put``; responds with the framework's error page for 404. |
    | ``GET /sessions`` | Responds with the keys of the user's sessions, newest first, as a JSON array. |
    | ``POST /end?key=...`` | Ends one of them; responds whether there was one, as JSON. |
    | ``POST /sensitive?seconds=60`` | Needs a login within the last seconds, else responds with 401 and a problem. |
    | ``POST /reauthenticate`` | Notes that the user has logged in again. |
    | ``POST /end_others`` | Ends all but this session; responds with their number, as JSON. |

    If a request has the header ``Hold``, its handler first looks at the session, then passes the gate
    (``await gate.wait()``, or ``gate.block()`` in a thread), and then does what the route does. Any
    number of requests may be held at once.

    The settings are the integration's, under its own names: ``ttl`` is the idle timeout and the cookie's
    age in seconds; ``expire_at_browser_close``; ``absolute_timeout``, seconds;
    ``rotate_on_login``; and for the cookie ``cookie_name``, ``path``, ``domain``, ``same_site``,
    ``secure`` and ``partitioned``. With ``bearer=True`` it also takes an id from ``Authorization: Bearer``, unless
    the cookie has one, and gives one in ``X-Session-Token``. With ``subject_key="user"`` a change of that key logs a
    user in. ``anonymous_ttl`` is the ``ttl`` of sessions without a user. What is not given is the integration's default.

    ``create_storage(clock)`` may be overridden too: it is called once for each test and gives an empty
    storage, one in memory unless overridden. Sessions expire by the `ManualClock`. The storage is wrapped
    in a `SpyStorage`, which records its calls.

    It works with pytest-asyncio in strict and in auto mode, each test in an event loop of its own.

    Attributes:
        cookie_name: The name of the session cookie unless set. ``"session"`` by default.
        lacks: What the framework cannot do: names of tests, without ``test_``, and the reasons. Such a
            test is expected to fail, with that reason, and must fail. Empty by default.
    """
