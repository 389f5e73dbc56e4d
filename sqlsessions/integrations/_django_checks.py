"""The system check of Django's integration: a wrong setting is seen by ``manage.py check``."""

from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured

ENGINE = "sqlsessions.integrations.django"


class Checks(AppConfig):  # type: ignore[misc]
    """An app for ``INSTALLED_APPS`` that has `manage.py check` look at the settings of the sessions."""

    name = ENGINE
    label = "sqlsessions"
    verbose_name = "sqlsessions"

    def ready(self) -> None:
        """Register the check."""
        checks.register(check_settings)


class Admin(Checks):
    """`Checks`, and sessions in Django's admin: a list by subject or key, with which to end them.

    For ``INSTALLED_APPS``, in the place of `Checks`. Who may see the list has the permission
    ``sqlsessions.view_session``, who may end sessions ``sqlsessions.delete_session``; ``migrate`` makes them.
    """

    def import_models(self) -> None:
        """Make the model that permissions are about."""
        super().import_models()
        from . import _django_admin  # noqa: PLC0415 (models are made once the apps are known)

        self.models_module = _django_admin

    def ready(self) -> None:
        """Register the check, and the page."""
        super().ready()
        from django.contrib import admin  # noqa: PLC0415 (as above)

        from ._django_admin import Session, SessionAdmin  # noqa: PLC0415 (as above)

        admin.site.register(Session, SessionAdmin)


def check_settings(app_configs: Any, **_: Any) -> list[Any]:  # noqa: ARG001 (Django gives it)
    """What is wrong with the settings; nothing is asked of the database."""
    if settings.SESSION_ENGINE != ENGINE:
        return [
            checks.Warning(
                f"SESSION_ENGINE is {settings.SESSION_ENGINE!r}, so that sqlsessions keeps no sessions.",
                hint=f"Set SESSION_ENGINE = {ENGINE!r}.",
                id="sqlsessions.W001",
            )
        ]
    from .django import storage  # noqa: PLC0415 (which imports this module)

    try:
        storage()
    except (ImproperlyConfigured, ImportError) as error:
        return [checks.Error(str(error), id="sqlsessions.E001")]
    return []
