"""A Django project on Django's own sessions, which writes those that the tests move: run as a program.

Gets the database's settings as JSON; prints the keys of sessions, by what they are.
"""

from __future__ import annotations

import json
import runpy
import sys
from datetime import timedelta
from pathlib import Path

from django import conf

PROJECT = Path(__file__).parent.parent / "integrations" / "django_project"


def configure(database: dict[str, str]) -> None:
    import django

    settings = runpy.run_path(str(PROJECT / "settings.py"))
    conf.settings.configure(
        **{name: value for name, value in settings.items() if name.isupper()}
        | {
            "SESSION_ENGINE": "django.contrib.sessions.backends.db",
            "MIDDLEWARE": [
                "django.contrib.sessions.middleware.SessionMiddleware",
                "django.contrib.auth.middleware.AuthenticationMiddleware",
            ],
            "DATABASES": {"default": database},
        }
    )
    django.setup()


def main() -> None:
    configure(json.loads(sys.argv[1]))
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session
    from django.core.management import call_command
    from django.test import Client, override_settings
    from django.utils import timezone

    call_command("migrate", "sessions", verbosity=0)
    written = {}
    for name in ("alice", "anonymous"):
        client = Client()
        client.get("/put/first")
        if name == "alice":
            client.get("/login/7")
        written[name] = client.cookies["sessionid"].value
    with override_settings(SECRET_KEY="another"):
        client = Client()
        client.get("/put/first")
        written["forged"] = client.cookies["sessionid"].value
    expired = SessionStore()
    expired["first"] = 1
    expired.set_expiry(timezone.now() - timedelta(days=1))
    expired.create()
    written["expired"] = expired.session_key
    written["expires_at"] = Session.objects.get(pk=written["alice"]).expire_date.isoformat()
    sys.stdout.write(json.dumps(written))


if __name__ == "__main__":
    main()
