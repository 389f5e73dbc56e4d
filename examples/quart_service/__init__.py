"""A counter and notes for Quart, in sessions that sqlsessions keeps.

Run it from a checkout, with the extra ``quart`` installed::

    export SQLSESSIONS_URL=sqlite+aiosqlite:///./sessions.db
    sqlsessions upgrade
    python -m examples.quart_service
"""
