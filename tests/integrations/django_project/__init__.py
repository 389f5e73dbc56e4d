"""A Django project, for the tests of its session engine."""

from __future__ import annotations

import django
from django import conf

from . import settings

if not conf.settings.configured:
    conf.settings.configure(**{name: value for name, value in vars(settings).items() if name.isupper()})
    django.setup()
