"""A small web service whose sessions are kept by sqlsessions.

Run it from a checkout, with the extra ``example`` installed::

    export SQLSESSIONS_URL=sqlite+aiosqlite:///./sessions.db
    sqlsessions upgrade
    python -m examples.fastapi_service

``logins`` is what it keeps in sessions and how, ``app`` the routes, ``forms`` and ``download`` the
two ends of the stream between a browser and a session, ``pages`` the HTML.
"""
