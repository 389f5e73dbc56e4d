"""The service: forms that work without JavaScript; with it, all tabs notice a logout."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from sqlsessions import ManagedSessionStorage
from sqlsessions.integrations.starlette import (
    Session,
    SessionMiddleware,
    alive,
    end_other_sessions,
    end_session,
    list_sessions,
    load,
)

MONTH = 30 * 24 * 60 * 60
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Notes</title>
<meta name="viewport" content="width=device-width">
<style>body {{ font: 1rem/1.5 sans-serif; margin: 2rem auto; max-width: 40rem; padding: 0 1rem }}</style>
<main>{body}</main></html>"""
LOGIN = """<h1>Log in</h1>
<form method="post" action="/login">
<p><label>Name <input name="user" required maxlength="64" autocomplete="username"></label></p>
<p><label><input type="checkbox" name="remember"> Remember me</label></p>
<p><button>Log in</button></p></form>"""
NOTES = """<h1>Notes of {user}</h1>
<ul id="notes">{notes}</ul>
<form method="post" action="/note">
<p><label>Title <input name="title" required></label> <label>Text <input name="text"></label>
<button>Keep</button></p></form>
<h2>Your sessions</h2><ul id="sessions">{sessions}</ul>
<form method="post" action="/end-others"><button>End the others</button></form>
<form method="post" action="/logout"><button>Log out</button></form>
<script>
const live = new WebSocket(location.origin.replace("http", "ws") + "/live")
live.onclose = (event) => {{
  if (event.code === 1008) location.reload()
}}
// The answer to a form is under way: a page that reloads drops it, and with it the end of the cookie.
addEventListener("submit", () => {{ live.onclose = null }})
</script>"""


def create_app(storage: ManagedSessionStorage, session_cookie: str = "session") -> Starlette:
    """The service over a storage, which is closed when it stops.

    Args:
        storage: Where the sessions are.
        session_cookie: Name of the cookie.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        async with storage:
            yield

    routes = [
        Route("/", home),
        Route("/note", note, methods=["POST"]),
        Route("/login", login, methods=["POST"]),
        WebSocketRoute("/live", live),
    ]
    routes += [Route("/logout", logout, methods=["POST"]), Route("/end", end, methods=["POST"])]
    routes += [Route("/end-others", end_others, methods=["POST"])]
    # The cookie is SameSite=Lax: forms that other sites send come without it.
    session = Middleware(SessionMiddleware, storage=storage, session_cookie=session_cookie)
    return Starlette(routes=routes, middleware=[session], lifespan=lifespan)


async def home(request: Request) -> Response:
    """The notes and the sessions of whoever is logged in; else the form to log in."""
    session = await load(request)
    if session.subject is None:
        return HTMLResponse(PAGE.format(body=LOGIN))
    notes = "".join(f"<li>{escape(title)}: {escape(text)}</li>" for title, text in session.items())
    rows = [
        _row(session, info.key, f"{info.created_at:%d %B, %H:%M}") async for info in list_sessions(request)
    ]
    body = NOTES.format(user=escape(session.subject), notes=notes, sessions="".join(rows))
    return HTMLResponse(PAGE.format(body=body))


async def login(request: Request) -> Response:
    """Log in: this demonstration asks for no password."""
    form, session = await request.form(), await load(request)
    session.clear()
    session.subject = str(form["user"])
    if "remember" in form:
        session.set_expiry(MONTH)
    else:
        session.set_expiry(3600, browser=True)
    return RedirectResponse("/", 303)


async def note(request: Request) -> Response:
    """Keep a note."""
    form, session = await request.form(), await load(request)
    if session.subject is not None:
        session[str(form["title"])] = str(form["text"])  # of its own key: no two notes overwrite each other
    return RedirectResponse("/", 303)


async def end(request: Request) -> Response:
    """End one of the user's sessions."""
    await end_session(request, str((await request.form())["key"]))
    return RedirectResponse("/", 303)


async def end_others(request: Request) -> Response:
    """End all of the user's sessions but this one."""
    await end_other_sessions(request)
    return RedirectResponse("/", 303)


async def logout(request: Request) -> Response:
    """Log out."""
    (await load(request)).invalidate()
    return RedirectResponse("/", 303)


async def live(websocket: WebSocket) -> None:
    """Tell the page when its session ends, by closing the WebSocket."""
    await websocket.accept()
    async with alive(websocket):
        async for _ in websocket.iter_text():
            pass


def _row(session: Session, key: str, began: str) -> str:
    if session.info is not None and session.info.key == key:
        return f"<li>{began} (this one)</li>"
    button = f'<input type="hidden" name="key" value="{key}"><button>End</button>'
    return f'<li><form method="post" action="/end">{began} {button}</form></li>'
