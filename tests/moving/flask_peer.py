"""A Flask service on Flask-Session, which writes the sessions that the tests move: run as a program.

Gets its settings as JSON; prints the cookies of its sessions, by their users.
"""

from __future__ import annotations

import json
import sys
import warnings

from flask import Flask, session


def main() -> None:
    from flask_session import Session

    app = Flask(__name__)
    app.config.update(json.loads(sys.argv[1]), SECRET_KEY="of the tests", PERMANENT_SESSION_LIFETIME=1000)
    if app.config["SESSION_TYPE"] == "redis":
        from redis import Redis

        app.config["SESSION_REDIS"] = Redis.from_url(app.config["REDIS"])
    else:
        from flask_sqlalchemy import SQLAlchemy

        app.config["SESSION_SQLALCHEMY"] = SQLAlchemy(app)
    warnings.simplefilter("ignore")  # that signatures are deprecated, and utcnow
    Session(app)

    @app.get("/<user>")
    def begin(user: str) -> str:
        session.update(user=user, name="ä")
        return ""

    written = {}
    for user in ("ann", "bob"):
        client = app.test_client()
        client.get(f"/{user}")
        cookie = client.get_cookie("session")
        assert cookie is not None
        written[user] = cookie.value
    sys.stdout.write(json.dumps(written))


if __name__ == "__main__":
    main()
