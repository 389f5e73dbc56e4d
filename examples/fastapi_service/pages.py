"""The HTML of the service: plain, escaped, and of use without JavaScript."""

from collections.abc import Iterable
from datetime import datetime
from html import escape

from .logins import Device, File, Login

MAX_USER = 64  # characters of a user name

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · sqlsessions example</title>
<link rel="stylesheet" href="/style.css">
</head>
<body>
<header><p><strong>sqlsessions</strong> example service</p></header>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""
_LOG_OUT = """
<button name="what" value="this">Log out</button>
<button name="what" value="others">Log out all others</button>
<button name="what" value="all">Log out everywhere</button>
"""


REASONS = {
    "this": "You have logged out.",
    "all": "You have logged out everywhere.",
    "ended": "Your session has ended: it was ended from another device, or not used for too long.",
}
"""Why one is asked to log in, by what the address says."""


def login_page(problem: str = "", reason: str = "") -> str:
    """The form to log in with.

    Args:
        problem: What was wrong with the last attempt.
        reason: Why one has to log in.
    """
    why = f'<p id="reason" class="note" role="status">{escape(reason)}</p>' if reason else ""
    alert = f'<p id="problem" class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    hints = 'aria-invalid="true" aria-describedby="problem"' if problem else ""
    return _page(
        "Log in",
        f"""{why}
<p class="note">This is a demonstration: any name logs you in, and no password is asked for.
Do not upload anything that others must not see.</p>
{alert}
<form method="post" action="/login">
<label for="user">User name</label>
<input id="user" name="user" required maxlength="{MAX_USER}" autocomplete="username" {hints}>
<button>Log in</button>
</form>""",
    )


def home_page(login: Login, file: File | None, devices: Iterable[Device]) -> str:
    """What a log-in sees and can do."""
    rows = "\n".join(_row(login, device) for device in devices)
    return _page(
        f"Hello, {login.user}",
        f"""<section aria-labelledby="counting">
<h2 id="counting">Counter</h2>
<p>This session has counted to <output id="counter">{login.counter}</output>.</p>
{_form(login, "/counter", "<button>Count one more</button>")}
</section>
<section aria-labelledby="file-heading">
<h2 id="file-heading">File</h2>
{_file(file)}
<form method="post" action="/file" enctype="multipart/form-data">
{_csrf(login)}
<label for="file">{"Replace it by" if file else "Upload a file of any size"}</label>
<input id="file" name="file" type="file" required>
<button>Upload</button>
</form>
</section>
<section aria-labelledby="sessions">
<h2 id="sessions">Your devices</h2>
<div class="scroll" role="region" aria-labelledby="sessions" tabindex="0">
<table>
<thead><tr><th scope="col">Device</th><th scope="col">Logged in (UTC)</th>
<th scope="col">Last changed (UTC)</th>
<th scope="col">Size</th><th scope="col">End it</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</div>
</section>
<section aria-labelledby="leaving">
<h2 id="leaving">Log out</h2>
{_form(login, "/logout", _LOG_OUT)}
</section>""",
    )


def message_page(title: str, text: str) -> str:
    """A page that says what went wrong."""
    return _page(title, f'<p>{escape(text)}</p>\n<p><a href="/">Back to the start</a></p>')


def _page(title: str, body: str) -> str:
    return _PAGE.format(title=escape(title), body=body)


def _csrf(login: Login) -> str:
    return f'<input type="hidden" name="csrf" value="{login.csrf}">'


def _form(login: Login, action: str, fields: str) -> str:
    return f'<form method="post" action="{action}">{_csrf(login)}{fields}</form>'


def _file(file: File | None) -> str:
    if file is None:
        return "<p>This session holds no file.</p>"
    return f"""<p>This session holds <a href="/file" download>{escape(file.name)}</a>,
{_size(file.size)}, <span class="type">{escape(file.type)}</span>.</p>"""


def _row(login: Login, device: Device) -> str:
    info = device.info
    own = ' <strong class="own">this one</strong>' if info.key == login.key else ""
    name = f"{device.name}, session {info.key[:8]}"
    end = _form(
        login,
        "/sessions/end",
        f'<input type="hidden" name="key" value="{info.key}"><button aria-label="End {escape(name)}">End</button>',
    )
    return (
        f'<tr><th scope="row">{escape(device.name)} <code>{info.key[:8]}</code>{own}</th>'
        f"<td>{_time(info.created_at)}</td>"
        f"<td>{_time(info.updated_at)}</td><td>{_size(device.size)}</td><td>{end}</td></tr>"
    )


def _time(moment: datetime) -> str:
    date = f'<span class="date">{moment:%Y-%m-%d}</span>'
    return f'<time datetime="{moment.isoformat()}">{date} {moment:%H:%M:%S}</time>'


def _size(size: int) -> str:
    amount, unit = float(size), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:  # noqa: PLR2004
            break
        amount, unit = amount / 1024, larger
    return f"{size} bytes" if unit == "bytes" else f"{amount:.1f} {unit}"
