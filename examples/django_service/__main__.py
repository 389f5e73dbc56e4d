"""Check the tables, then serve."""

import asyncio
import os
import sys

import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application

from sqlsessions import SessionError, schema

URL = os.environ.get("SQLSESSIONS_URL", "sqlite+aiosqlite:///./sessions.db")

settings.configure(
    SECRET_KEY=os.environ.get("SECRET_KEY", "for this example alone"),
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF="examples.django_service.urls",
    MIDDLEWARE=[
        "sqlsessions.integrations.django.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    SESSION_ENGINE="sqlsessions.integrations.django",
    SQLSESSIONS={"url": URL},
)

if __name__ == "__main__":
    try:
        asyncio.run(schema.check(URL))
    except SessionError as error:
        sys.exit(f"cannot start: {error}")
    uvicorn.run(get_asgi_application(), host="127.0.0.1", port=8000, lifespan="off")
