"""Check the tables, then serve."""

import asyncio
import os
import sys
from html import escape
from typing import Any

import uvicorn
from litestar import Litestar, MediaType, Request, get, post
from litestar.response import Redirect

from sqlsessions import ManagedSessionStorage, SessionError, SqlSessionStorage, schema
from sqlsessions.integrations.litestar import SessionConfig, load

DEFAULT_URL = "sqlite+aiosqlite:///./sessions.db"
LOGIN = """<form method="post" action="/login">
<label>Name <input name="user" required maxlength="100"></label> <button>Log in</button></form>"""
HOME = """<p>Hello {user}, this is visit <b id="visits">{visits}</b>.</p>
<ul>{notes}</ul>
<form method="post" action="/notes"><input name="key" required aria-label="Key">
<input name="text" aria-label="Text"> <button>Keep</button></form>
<form method="post" action="/logout"><button>Log out</button></form>"""

AnyRequest = Request[Any, Any, Any]


@get("/", media_type=MediaType.HTML)
async def home(request: AnyRequest) -> str:
    """Greet and count, or ask who it is."""
    session = await load(request)
    if session.subject is None:
        return LOGIN
    session["visits"] = session.get("visits", 0) + 1
    notes = (f"<li>{escape(key[5:])}: {escape(session[key])}</li>" for key in session if key[:5] == "note:")
    return HOME.format(user=escape(session.subject), visits=session["visits"], notes="".join(notes))


@post("/login")
async def login(request: AnyRequest) -> Redirect:
    """Begin a session of its own; a real service would ask for a password."""
    session = await load(request)
    session.clear()
    session.subject = str((await request.form())["user"])
    return Redirect("/", status_code=303)


@post("/notes")
async def keep(request: AnyRequest) -> Redirect:
    """Keep a note under a key of its own, so that two tabs lose nothing."""
    form, session = await request.form(), await load(request)
    if session.subject is not None:
        session[f"note:{form['key']}"] = str(form["text"])
    return Redirect("/", status_code=303)


@post("/logout")
async def logout(request: AnyRequest) -> Redirect:
    """End the session."""
    request.clear_session()
    return Redirect("/", status_code=303)


def create_app(storage: ManagedSessionStorage) -> Litestar:
    """The service over a storage, which is closed when the service stops."""
    config = SessionConfig(storage)
    return Litestar(
        [home, login, keep, logout],
        middleware=[config.middleware],
        on_shutdown=[storage.aclose],
        openapi_config=None,
    )


def main() -> None:
    """Serve the database that the environment variable SQLSESSIONS_URL names."""
    url = os.environ.get("SQLSESSIONS_URL", DEFAULT_URL)
    try:
        asyncio.run(schema.check(url))
        storage = SqlSessionStorage(url)
    except SessionError as error:
        sys.exit(f"cannot start: {error}")
    uvicorn.run(create_app(storage), host="127.0.0.1", port=8000)


if __name__ == "__main__":
    main()
