"""A counter and notes for Django, in sessions that sqlsessions keeps.

Run it from a checkout, with the extras ``django`` and ``example`` installed::

    export SQLSESSIONS_URL=sqlite+aiosqlite:///./sessions.db
    sqlsessions upgrade
    python -m examples.django_service

``urls`` has the views.
"""
