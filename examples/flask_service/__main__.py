"""Check the tables, then serve."""

import asyncio
import os
import sys
from html import escape

from flask import Flask, redirect, request
from flask import session as current
from werkzeug.wrappers.response import Response

from sqlsessions import SessionError, SqlSessionStorage, schema
from sqlsessions.integrations.flask import SqlSession, SqlSessionInterface

DEFAULT_URL = "sqlite+aiosqlite:///./sessions.db"
LOGIN = """<form method="post" action="/login">
<label>Name <input name="user" required maxlength="100"></label>
<label><input type="checkbox" name="stay"> Stay logged in</label> <button>Log in</button></form>"""
HOME = """<p>Hello {user}, this is visit <b id="visits">{visits}</b>.</p>
<ul>{notes}</ul>
<form method="post" action="/notes"><input name="key" required aria-label="Key">
<input name="text" aria-label="Text"> <button>Keep</button></form>
<form method="post" action="/logout"><button>Log out</button></form>"""

session: SqlSession = current  # type: ignore[assignment]  # what the interface makes of it


def create_app(storage: SqlSessionStorage) -> Flask:
    """The service over a storage."""
    app = Flask(__name__)
    SqlSessionInterface(storage).init_app(app)

    @app.get("/")
    def home() -> str:
        """Greet and count, or ask who it is."""
        if session.subject is None:
            return LOGIN
        session["visits"] = session.get("visits", 0) + 1
        notes = (
            f"<li>{escape(key[5:])}: {escape(session[key])}</li>" for key in session if key[:5] == "note:"
        )
        return HOME.format(user=escape(session.subject), visits=session["visits"], notes="".join(notes))

    @app.post("/login")
    def login() -> Response:
        """Begin a session of its own; a real service would ask for a password."""
        form = request.form
        session.clear()
        session.subject = form["user"]
        session.permanent = "stay" in form
        return redirect("/", 303)

    @app.post("/notes")
    def keep() -> Response:
        """Keep a note under a key of its own, so that two tabs lose nothing."""
        form = request.form
        if session.subject is not None:
            session[f"note:{form['key']}"] = form["text"]
        return redirect("/", 303)

    @app.post("/logout")
    def logout() -> Response:
        """End the session."""
        session.clear()
        return redirect("/", 303)

    return app


if __name__ == "__main__":
    url = os.environ.get("SQLSESSIONS_URL", DEFAULT_URL)
    try:
        asyncio.run(schema.check(url))
    except SessionError as error:
        sys.exit(f"cannot start: {error}")
    create_app(SqlSessionStorage(url)).run(host="127.0.0.1", port=8000)
