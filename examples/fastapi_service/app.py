"""The routes of the service."""

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sqlsessions import ManagedSessionStorage, SessionError

from . import forms, pages
from .answers import COOKIE, HANDLERS, logged_out, see
from .devices import name_of
from .download import Download
from .logins import Login, Logins, NotLoggedIn

PURGE_EVERY = 3600.0  # seconds
SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
logger = logging.getLogger(__name__)
router = APIRouter(default_response_class=HTMLResponse)


def create_app(storage: ManagedSessionStorage) -> FastAPI:
    """The service over a storage.

    Args:
        storage: Where the sessions are; closed when the service stops.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with storage:
            purging = asyncio.create_task(_purge(storage))
            yield
            purging.cancel()
            await asyncio.gather(purging, return_exceptions=True)

    app = FastAPI(lifespan=lifespan, exception_handlers=HANDLERS, openapi_url=None)
    app.state.logins = Logins(storage)
    app.include_router(router)
    app.add_middleware(SecurityHeaders)
    return app


def _logins(request: Request) -> Logins:
    logins = request.app.state.logins
    assert isinstance(logins, Logins)
    return logins


AllLogins = Annotated[Logins, Depends(_logins)]


async def _current(request: Request, logins: AllLogins) -> Login:
    return await logins.find(request.cookies.get(COOKIE, ""))


Current = Annotated[Login, Depends(_current)]


async def _acting(login: Current, csrf: Annotated[str, Form()] = "") -> Login:
    """The log-in whose own form was sent, not one that another site made the browser send."""
    _check_csrf(login, csrf)
    return login


Acting = Annotated[Login, Depends(_acting)]


@router.get("/")
async def home(login: Current, logins: AllLogins) -> str:
    """The counter, the file and the sessions of the log-in."""
    devices = [device async for device in logins.devices(login.user)]
    return pages.home_page(login, await logins.file(login), devices)


@router.get("/login")
async def login_form(why: str = "") -> str:
    """The form to log in with, and why one has to."""
    return pages.login_page(reason=pages.REASONS.get(why, ""))


@router.post("/login")
async def log_in(request: Request, logins: AllLogins, user: Annotated[str, Form()] = "") -> Response:
    """Log in, in place of whoever was logged in with this browser."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "This form was sent by another site.")
    user = user.strip()
    if not (user.isprintable() and 0 < len(user) <= pages.MAX_USER):
        problem = f"A user name is 1 to {pages.MAX_USER} printable characters."
        return HTMLResponse(pages.login_page(problem), 400)
    try:
        old = await _current(request, logins)
    except NotLoggedIn:
        pass
    else:
        await logins.end(old.user, old.key)
    response = see("/")
    secure = request.url.scheme == "https"
    id = await logins.start(user, name_of(request.headers.get("user-agent", "")))
    response.set_cookie(COOKIE, id, secure=secure, httponly=True, samesite="lax")
    return response


@router.post("/counter")
async def count(login: Acting, logins: AllLogins) -> Response:
    """Count one more."""
    await logins.count(login)
    return see("/")


@router.post("/file")
async def upload(request: Request, login: Current, logins: AllLogins) -> Response:
    """Stream a file from the request into the session."""
    form = forms.Form(request.headers.get("content-type", ""), request.stream())
    _check_csrf(login, await form.field("csrf", limit=100))
    part, content = await form.file("file")
    await logins.write_file(login, part.file, part.type, content)
    return see("/")


@router.get("/file")
async def download(login: Current, logins: AllLogins) -> Response:
    """Stream the file from the session into the response."""
    return Download(logins, login)


@router.post("/sessions/end")
async def end_session(login: Acting, logins: AllLogins, key: Annotated[str, Form()] = "") -> Response:
    """End one of the user's sessions, this or another."""
    if not await logins.end(login.user, key):
        raise HTTPException(404, "You have no such session; it may have ended already.")
    return logged_out("this") if key == login.key else see("/")


@router.post("/logout")
async def log_out(login: Acting, logins: AllLogins, what: Annotated[str, Form()] = "this") -> Response:
    """Log out here, everywhere else, or everywhere."""
    if what == "others":
        await logins.end_others(login)
        return see("/")
    if what == "all":
        await logins.end_all(login.user)
    else:
        await logins.end(login.user, login.key)
    return logged_out("all" if what == "all" else "this")


@router.get("/style.css")
async def style() -> Response:
    """The style sheet, in a file of its own because the content security policy allows no other."""
    return FileResponse(Path(__file__).with_name("style.css"), headers={"Cache-Control": "max-age=3600"})


class SecurityHeaders:
    """Adds SECURITY_HEADERS to every response that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, as ASGI has it."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _purge(storage: ManagedSessionStorage) -> None:
    while True:
        try:
            await storage.purge()
        except SessionError:
            logger.exception("expired sessions were not purged")
        await asyncio.sleep(PURGE_EVERY)


def _check_csrf(login: Login, csrf: str) -> None:
    if not hmac.compare_digest(login.csrf.encode(), csrf.encode(errors="replace")):
        raise HTTPException(403, "This form is not from your session. Go back, reload the page, try again.")
