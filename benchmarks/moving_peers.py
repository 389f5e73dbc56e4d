"""Has Django or Flask-Session write many sessions, as a program of its own: they are configured once for a process.

Prints the cookies as JSON.
"""

from __future__ import annotations

import json
import sys
import warnings
from datetime import timedelta
from typing import Any

from sqlalchemy import make_url

DAY = timedelta(days=1)


def flask(count: int, settings: dict[str, Any]) -> list[str]:
    """By Flask-Session's own code for a request that has changed its session, but for the response."""
    from flask import Flask
    from flask_session import Session

    from .moving import data_of

    app = Flask(__name__)
    app.config.update(settings, SECRET_KEY="of the benchmark", PERMANENT_SESSION_LIFETIME=DAY)
    if settings["SESSION_TYPE"] == "redis":
        from redis import Redis

        app.config["SESSION_REDIS"] = Redis.from_url(settings["REDIS"])
    else:
        from flask_sqlalchemy import SQLAlchemy

        app.config["SESSION_SQLALCHEMY"] = SQLAlchemy(app)
    warnings.simplefilter("ignore")  # that utcnow is deprecated
    Session(app)
    interface: Any = app.session_interface
    cookies = []
    with app.app_context():
        for number in range(count):
            sid = interface._generate_sid(interface.sid_length)  # noqa: SLF001
            session = interface.session_class(data_of(number), sid=sid, permanent=True)
            interface._upsert_session(DAY, session, interface._get_store_id(sid))  # noqa: SLF001
            cookies.append(sid)
    return cookies


def django(count: int, settings: dict[str, Any]) -> list[str]:
    """By Django's own encoding and model, in batches."""
    from django.conf import settings as configured

    url = make_url(settings["url"])
    configured.configure(
        SECRET_KEY=settings["key"],
        INSTALLED_APPS=["django.contrib.sessions"],
        USE_TZ=True,
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": url.database,
                "USER": url.username,
                "PASSWORD": url.password or "",
                "HOST": url.host,
                "PORT": url.port,
            }
        },
    )
    import django as library

    library.setup()
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session
    from django.core.management import call_command

    from .moving import data_of

    call_command("migrate", "sessions", verbosity=0)
    made = []
    for number in range(count):
        store = SessionStore()
        store.update(data_of(number))
        store._session_key = store._get_new_session_key()  # noqa: SLF001
        made.append(store.create_model_instance(store._session))  # noqa: SLF001
        if len(made) % 5000 == 0 or number == count - 1:
            Session.objects.bulk_create(made[-(len(made) % 5000 or 5000) :])
    return [session.session_key for session in made]


if __name__ == "__main__":
    library, count, settings = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
    sys.stdout.write(json.dumps({"flask": flask, "django": django}[library](count, settings)))
