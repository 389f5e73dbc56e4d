"""`python -m examples.starlette_service`, on the database at SQLSESSIONS_URL."""

import asyncio
import os

import uvicorn

from sqlsessions import SqlSessionStorage, schema

from .app import create_app

URL = os.environ.get("SQLSESSIONS_URL", "sqlite+aiosqlite:///./sessions.db")

if __name__ == "__main__":
    asyncio.run(schema.upgrade(URL))
    uvicorn.run(create_app(SqlSessionStorage(URL)), port=int(os.environ.get("PORT", "8000")))
