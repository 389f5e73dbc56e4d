"""Check the tables, then serve."""

import argparse
import asyncio
import os
import sys

import uvicorn

from sqlsessions import SessionError, SqlSessionStorage, schema

from .app import create_app

DEFAULT_URL = "sqlite+aiosqlite:///./sessions.db"


def main() -> None:
    """Serve the database that the environment variable SQLSESSIONS_URL names."""
    parser = argparse.ArgumentParser(prog="python -m examples.fastapi_service", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    url = os.environ.get("SQLSESSIONS_URL", DEFAULT_URL)
    try:
        asyncio.run(schema.check(url))
        storage = SqlSessionStorage(url)
    except SessionError as error:
        sys.exit(f"cannot start: {error}")
    uvicorn.run(create_app(storage), host=arguments.host, port=arguments.port)


if __name__ == "__main__":
    main()
