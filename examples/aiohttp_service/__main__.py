"""Check the tables, then serve."""

import os
import sys
from html import escape

import aiohttp_session
from aiohttp import web

from sqlsessions import SessionError, SqlSessionStorage, schema
from sqlsessions.integrations.aiohttp import AioHttpStorage, Session, setup

DEFAULT_URL = "sqlite+aiosqlite:///./sessions.db"
LOGIN = """<form method="post" action="/login">
<label>Name <input name="user" required maxlength="100"></label> <button>Log in</button></form>"""
HOME = """<p>Hello {user}, this is visit <b id="visits">{visits}</b>.</p>
<ul>{notes}</ul>
<form method="post" action="/notes"><input name="key" required aria-label="Key">
<input name="text" aria-label="Text"> <button>Keep</button></form>
<form method="post" action="/logout"><button>Log out</button></form>"""

routes = web.RouteTableDef()


async def session_of(request: web.Request) -> Session:
    """The session of a request."""
    session = await aiohttp_session.get_session(request)
    assert isinstance(session, Session)
    return session


@routes.get("/")
async def home(request: web.Request) -> web.Response:
    """Greet and count, or ask who it is."""
    session = await session_of(request)
    if session.subject is None:
        return web.Response(text=LOGIN, content_type="text/html")
    session["visits"] = session.get("visits", 0) + 1
    notes = (f"<li>{escape(key[5:])}: {escape(session[key])}</li>" for key in session if key[:5] == "note:")
    text = HOME.format(user=escape(session.subject), visits=session["visits"], notes="".join(notes))
    return web.Response(text=text, content_type="text/html")


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    """Begin a session of its own; a real service would ask for a password."""
    session = await aiohttp_session.new_session(request)
    assert isinstance(session, Session)
    session.subject = str((await request.post())["user"])
    raise web.HTTPSeeOther("/")


@routes.post("/notes")
async def keep(request: web.Request) -> web.Response:
    """Keep a note under a key of its own, so that two tabs lose nothing."""
    form, session = await request.post(), await session_of(request)
    if session.subject is not None:
        session[f"note:{form['key']!s}"] = str(form["text"])
    raise web.HTTPSeeOther("/")


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    """End the session."""
    (await session_of(request)).invalidate()
    raise web.HTTPSeeOther("/")


async def create_app(url: str) -> web.Application:
    """The service over a database, once its tables are there."""
    await schema.check(url)
    storage = SqlSessionStorage(url)

    async def close(_app: web.Application) -> None:
        await storage.aclose()

    app = web.Application()
    app.add_routes(routes)
    setup(app, AioHttpStorage(storage, expire_at_browser_close=False))
    app.on_cleanup.append(close)
    return app


if __name__ == "__main__":
    try:
        web.run_app(create_app(os.environ.get("SQLSESSIONS_URL", DEFAULT_URL)), host="127.0.0.1", port=8000)
    except SessionError as error:
        sys.exit(f"cannot start: {error}")
