"""A counter and notes for Flask, in sessions that sqlsessions keeps.

Run it from a checkout, with the extra ``flask`` installed::

    export SQLSESSIONS_URL=sqlite+aiosqlite:///./sessions.db
    sqlsessions upgrade
    python -m examples.flask_service
"""
