"""Sessions in Django's admin: a list by subject or key, with which to end one, or all of a subject."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.models import DELETION, LogEntry
from django.core.exceptions import PermissionDenied
from django.db import models
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import path

from ..errors import InvalidArgument
from ..info import SessionInfo
from ..sql.diagnosis.humanize import away, counted, moment, size
from ._admin_finding import MOST, Found, find
from ._web.portal import run
from ._web.watching import notice

SHOWN_DIGITS = 12  # of a key

_TEMPLATE = """{% extends "admin/base_site.html" %}
{% block breadcrumbs %}<div class="breadcrumbs"><a href="{% url 'admin:index' %}">Home</a> &rsaquo; {{ title }}</div>
{% endblock %}
{% block content %}
<form method="get" role="search"><label>Subject, or key of a session
<input type="search" name="q" value="{{ query }}" autocomplete="off"></label> <input type="submit" value="Search"></form>
{% for heading, rows in tables %}
<div class="module"><table><caption>{{ heading }}</caption><thead><tr><th scope="col">Key</th><th scope="col">Subject</th>
<th scope="col">Began</th><th scope="col">Written</th><th scope="col">Used</th><th scope="col">Expires</th>
<th scope="col">Size</th>
{% if may_end %}<th scope="col">End it</th>{% endif %}</tr></thead><tbody>
{% for row in rows %}<tr><th scope="row"><code title="{{ row.info.key }}">{{ row.name }}</code></th>
<td>{{ row.info.subject|default_if_none:"none" }}{% for line in row.named %}<br>{{ line }}{% endfor %}</td>
{% for time in row.times %}<td><time title="{{ time.0 }}">{{ time.1 }}</time></td>{% endfor %}<td>{{ row.size }}</td>
{% if may_end %}<td><form method="post">{% csrf_token %}<input type="hidden" name="key" value="{{ row.info.key }}">
<button aria-label="End session {{ row.name }}">End</button></form></td>{% endif %}</tr>
{% empty %}<tr><td colspan="8">There are none.</td></tr>{% endfor %}</tbody></table></div>
{% endfor %}
{% if more %}<p>These are the newest {{ most }}.</p>{% endif %}
{% if may_end and has_subject %}<details><summary>End all of them …</summary><form method="post">{% csrf_token %}
<input type="hidden" name="subject" value="{{ query }}"><button>End all sessions of {{ query }}</button></form></details>
{% endif %}{% endblock %}
"""


class Session(models.Model):  # type: ignore[misc]
    """What permissions and the admin's log are about; it has no table that Django would know."""

    key = models.CharField(primary_key=True, max_length=64, editable=False)

    class Meta:
        """Without a table, and with the permissions to view and to delete."""

        app_label = "sqlsessions"
        managed = False
        default_permissions = ("view", "delete")

    def __str__(self) -> str:
        return str(self.key)[:SHOWN_DIGITS]


class SessionAdmin(admin.ModelAdmin):  # type: ignore[misc]
    """The page: read-only, but for ending sessions, which takes the permission to delete."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.changelist_view)
        return [path("", view, name="sqlsessions_session_changelist")]

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002 (of the interface)
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002 (as above)
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The list, and what its forms send."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._end(request)
        query = request.GET.get("q", "").strip()
        found = run(find(_storage(), query)) if query else None
        context = {
            **self.admin_site.each_context(request),
            "title": "Sessions",
            "query": query,
            "tables": [] if found is None else _tables(query, found),
            "more": found is not None and found.more,
            "most": MOST,
            "has_subject": found is not None and bool(found.of_subject),
            "may_end": self.has_delete_permission(request),
            **(extra_context or {}),
        }
        template = engines["django"].from_string(_TEMPLATE)
        return TemplateResponse(request, template, context)

    def _end(self, request: HttpRequest) -> HttpResponse:
        if not self.has_delete_permission(request):
            raise PermissionDenied
        key, subject = request.POST.get("key"), request.POST.get("subject")
        if not (key or subject):
            return HttpResponse(b"This form names no session.", status=400)
        storage = _storage()
        try:
            ended = int(run(storage.invalidate_key(key) if key else storage.revoke(subject)))
        except InvalidArgument:
            return HttpResponse(b"This form names no session that there could be.", status=400)
        notice(storage, [key] if key else None)
        if ended:
            self._log(
                request, key or "", "Ended the session." if key else f"Ended all sessions of {subject}."
            )
        messages.success(request, f"Ended {counted(ended, 'session')}.")
        return HttpResponseRedirect(f"?{urlencode({'q': request.GET.get('q', '')})}")

    def _log(self, request: HttpRequest, key: str, message: str) -> None:
        LogEntry.objects.log_actions(
            user_id=request.user.pk, queryset=[Session(key=key)], action_flag=DELETION, change_message=message
        )


def _storage() -> Any:
    from .django import storage  # noqa: PLC0415 (which imports the app that imports this module)

    return storage()


def _tables(query: str, found: Found) -> list[tuple[str, list[dict[str, Any]]]]:
    tables = [("By key", [_row(info) for info in found.by_key])] if found.by_key else []
    return [*tables, (f"Sessions of {query}", [_row(info) for info in found.of_subject])]


def _row(info: SessionInfo) -> dict[str, Any]:
    began, written, expires = map(_shown, (info.created_at, info.updated_at, info.expires_at))
    used = ("", "unknown") if info.used_at is None else _shown(info.used_at)
    named = (info.labels, (info.client or {}).values())
    return {
        "info": info,
        "name": info.key[:SHOWN_DIGITS],
        "times": [began, written, used, expires],
        "named": [", ".join(texts) for texts in named if texts],
        "size": size(info.size),
    }


def _shown(time: datetime | None) -> tuple[str, str]:
    """A time, exactly and roughly."""
    return moment(time), away(time)
