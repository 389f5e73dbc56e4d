"""Sessions in Django's admin, by Django's test client: run as a program, since Django is configured once."""

from __future__ import annotations

import re
from typing import Any

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="of the tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="tests.integrations.django_admin.urls",
    MIDDLEWARE=[
        "sqlsessions.integrations.django.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "django.contrib.messages.middleware.MessageMiddleware",
    ],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "django.contrib.messages",
        "django.contrib.admin",
        "sqlsessions.integrations.django.Admin",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "APP_DIRS": True,
            "OPTIONS": {
                "context_processors": [
                    "django.template.context_processors.request",
                    "django.contrib.auth.context_processors.auth",
                    "django.contrib.messages.context_processors.messages",
                ]
            },
        }
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    SESSION_ENGINE="sqlsessions.integrations.django",
    SQLSESSIONS={"url": "sqlite://"},
    LOGGING_CONFIG=None,
)
django.setup()

PAGE = "/admin/sqlsessions/session/"


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.status_code
    return str(answer.content.decode())


def main() -> None:
    from django.contrib.admin.models import LogEntry
    from django.contrib.auth.models import Permission, User
    from django.core.management import call_command
    from django.test import Client

    from sqlsessions.integrations._web.portal import run
    from sqlsessions.integrations.django import storage

    call_command("check", fail_level="WARNING")
    call_command("migrate", verbosity=0)
    call_command("makemigrations", check=True, verbosity=0)  # which has nothing to make
    for name in ("one", "two", "<b>"):
        run(storage().write_bytes(f"id of {name}", b"secret", subject="ada" if name != "<b>" else name))

    known = {"address": "192.0.2.7", "user_agent": "<Browser>"}
    run(
        storage().write_bytes("id of grace", b"", subject="grace", labels=["tenant:7", "sid:1"], client=known)
    )

    def client_of(name: str, *permissions: str) -> Any:
        user = User.objects.create_user(name, password="hush", is_staff=True)
        for permission in permissions:
            user.user_permissions.add(
                Permission.objects.get(codename=permission, content_type__app_label="sqlsessions")
            )
        client = Client(enforce_csrf_checks=True)
        client.force_login(user)
        return client

    def posted(client: Any, **fields: str) -> Any:
        token = re.search('name="csrfmiddlewaretoken" value="(.*?)"', text_of(client.get(PAGE, {"q": "ada"})))
        return client.post(f"{PAGE}?q=ada", fields | {"csrfmiddlewaretoken": token[1] if token else ""})

    # Nobody, and an administrator without the permission.
    assert Client().get(PAGE).status_code == 302
    assert client_of("none").get(PAGE).status_code == 403

    # Who may look.
    viewer = client_of("viewer", "view_session")
    assert "Sessions" in text_of(viewer.get("/admin/"))
    assert "Search" in text_of(viewer.get(PAGE))
    page = text_of(viewer.get(PAGE, {"q": "ada"}))
    keys = re.findall('<code title="([0-9a-f]{64})">', page)
    assert len(keys) == 2
    assert "End it" not in page
    assert "secret" not in page
    assert "id of" not in page
    assert "There are none." in text_of(viewer.get(PAGE, {"q": "nobody"}))
    assert "<td>&lt;b&gt;</td>" in text_of(viewer.get(PAGE, {"q": "<b>"}))
    page = text_of(viewer.get(PAGE, {"q": "grace"}))
    assert "<td>grace<br>sid:1, tenant:7<br>192.0.2.7, &lt;Browser&gt;</td>" in page
    assert '<th scope="col">Used</th>' in page
    assert "By key" in text_of(viewer.get(PAGE, {"q": keys[0][:8]}))
    viewer.handler.enforce_csrf_checks = False
    assert viewer.post(PAGE, {"key": keys[0]}).status_code == 403

    # Who may end.
    ender = client_of("ender", "view_session", "delete_session")
    assert ender.post(PAGE, {"key": keys[0]}).status_code == 403  # without the page's own token
    assert posted(ender).status_code == 400
    assert posted(ender, subject="x" * 300).status_code == 400
    assert posted(ender, key="of none").status_code == 302
    assert "Ended 0 sessions." in text_of(ender.get(PAGE))
    assert posted(ender, key=keys[0]).url == "?q=ada"
    assert "Ended 1 session." in text_of(ender.get(PAGE, {"q": "ada"}))
    assert len(re.findall("<code title", text_of(ender.get(PAGE, {"q": "ada"})))) == 1
    assert posted(ender, subject="ada").status_code == 302
    assert "There are none." in text_of(ender.get(PAGE, {"q": "ada"}))
    assert [str(entry.change_message) for entry in LogEntry.objects.order_by("pk")] == [
        "Ended the session.",
        "Ended all sessions of ada.",
    ]
    assert ender.get("/admin/").status_code == 200  # with what it lists as done last
    run(storage().aclose())


if __name__ == "__main__":
    main()
