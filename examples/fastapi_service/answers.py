"""Answers that are not pages of the service: redirects, the cookie's end, refusals."""

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import ClientDisconnect

from sqlsessions import SessionNotFound, SessionTooLarge, StorageUnavailable

from . import pages
from .forms import BadForm
from .logins import NotLoggedIn

COOKIE = "session"
logger = logging.getLogger(__name__)


def see(path: str) -> Response:
    """Send the browser on to a page, so that reloading that page repeats no form."""
    return RedirectResponse(path, 303)


def logged_out(why: str | None = None) -> Response:
    """Take the cookie away and ask to log in.

    Args:
        why: The key of the reason in `pages.REASONS`; None if there is none to give.
    """
    response = see("/login" if why is None else f"/login?why={why}")
    response.delete_cookie(COOKIE, httponly=True, samesite="lax")
    return response


def _refusal(status: int, title: str, text: str) -> Response:
    return HTMLResponse(pages.message_page(title, text), status)


async def _not_logged_in(request: Request, __: Exception) -> Response:
    return logged_out("ended" if COOKIE in request.cookies else None)


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return _refusal(error.status_code, "That did not work", error.detail)


async def _bad_form(_: Request, error: Exception) -> Response:
    return _refusal(400, "Nothing was uploaded", f"The form was not accepted: {error}.")


async def _no_file(_: Request, __: Exception) -> Response:
    return _refusal(404, "No file", "This session holds no file.")


async def _too_large(_: Request, error: Exception) -> Response:
    return _refusal(413, "The file is too large", f"Nothing was changed: {error}.")


async def _unavailable(_: Request, error: Exception) -> Response:
    logger.error("the session storage is unavailable", exc_info=error)
    response = _refusal(503, "Out of order", "Sessions cannot be reached at the moment. Try again soon.")
    response.headers["Retry-After"] = "10"
    return response


async def _left(_: Request, __: Exception) -> Response:
    """Nobody is there any more to see an answer."""
    return Response(status_code=400)


HANDLERS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    NotLoggedIn: _not_logged_in,
    StarletteHTTPException: _refused,
    HTTPException: _refused,
    BadForm: _bad_form,
    ClientDisconnect: _left,
    SessionNotFound: _no_file,
    SessionTooLarge: _too_large,
    StorageUnavailable: _unavailable,
}
"""What the service answers when a request ends in an error."""
