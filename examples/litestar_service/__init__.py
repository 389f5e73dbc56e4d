"""A counter and notes for Litestar, in sessions that sqlsessions keeps.

Run it from a checkout, with the extra ``litestar`` and uvicorn installed::

    export SQLSESSIONS_URL=sqlite+aiosqlite:///./sessions.db
    sqlsessions upgrade
    python -m examples.litestar_service
"""
