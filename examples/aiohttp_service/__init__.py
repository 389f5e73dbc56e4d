"""A counter and notes for aiohttp, in sessions that sqlsessions keeps.

Run it from a checkout, with the extra ``aiohttp`` installed::

    export SQLSESSIONS_URL=sqlite+aiosqlite:///./sessions.db
    sqlsessions upgrade
    python -m examples.aiohttp_service
"""
