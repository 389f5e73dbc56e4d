"""The views."""

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import get_token
from django.urls import path
from django.utils.html import format_html, format_html_join
from django.views.decorators.http import require_POST

FIELD = '<input type="hidden" name="csrfmiddlewaretoken" value="{token}">'
LOGIN = f"""<form method="post" action="/login">{FIELD}
<label>Name <input name="user" required maxlength="100"></label> <button>Log in</button></form>"""
HOME = f"""<p>Hello {{user}}, this is visit <b id="visits">{{visits}}</b>.</p>
<ul>{{notes}}</ul>
<form method="post" action="/notes">{FIELD}<input name="key" required aria-label="Key">
<input name="text" aria-label="Text"> <button>Keep</button></form>
<form method="post" action="/logout">{FIELD}<button>Log out</button></form>"""


async def home(request: HttpRequest) -> HttpResponse:
    """Greet and count, or ask who it is."""
    session, token = request.session, get_token(request)
    user = await session.aget("user")
    if user is None:
        return HttpResponse(format_html(LOGIN, token=token))
    visits = await session.aget("visits", 0) + 1
    await session.aset("visits", visits)
    kept = [(key[5:], text) for key, text in await session.aitems() if key[:5] == "note:"]
    notes = format_html_join("", "<li>{}: {}</li>", kept)
    return HttpResponse(format_html(HOME, token=token, user=user, visits=visits, notes=notes))


async def login(request: HttpRequest) -> HttpResponse:
    """Begin a session of its own; a real service would ask for a password."""
    await request.session.aflush()
    await request.session.aset("user", request.POST["user"])
    return HttpResponseRedirect("/")


async def keep(request: HttpRequest) -> HttpResponse:
    """Keep a note under a key of its own, so that two tabs lose nothing."""
    if await request.session.ahas_key("user"):
        await request.session.aset(f"note:{request.POST['key']}", request.POST["text"])
    return HttpResponseRedirect("/")


async def logout(request: HttpRequest) -> HttpResponse:
    """End the session."""
    await request.session.aflush()
    return HttpResponseRedirect("/")


urlpatterns = [
    path("", home),
    path("login", require_POST(login)),
    path("notes", require_POST(keep)),
    path("logout", require_POST(logout)),
]
