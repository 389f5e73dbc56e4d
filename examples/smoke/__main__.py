"""The whole round."""

import signal
import subprocess
import sys
import time

import httpx

from . import SmokeError, expect
from .browser import FILE_SIZE, Browser, file_checksum
from .server import Server, new_server

MEMORY_LIMIT = 48 * 1024 * 1024  # how far the server's peak may grow while it moves the file
FORGED = "A" * 43  # of the form of a session id, but of no session


def smoke(server: Server) -> None:
    """Every step, in the order of a user's day."""
    server.upgrade()
    server.start()
    with Browser(server.url) as browser, Browser(server.url) as other:
        log_in(browser, other)
        count(browser)
        move_file(server, browser)
        restart(server, browser)
        ended = end_by_key(browser, other)
        used = [ended, *log_out_everywhere(browser, other)]
    log = server.log.read_text()
    expect(not any(old in log for old in used), "the server's log holds session ids")
    say("the server's log holds no session id")


def log_in(browser: Browser, other: Browser) -> None:
    """Log in, with an id that somebody planted in the browser."""
    expect(not browser.logged_in(), "a browser without a session was let in")
    browser.bring(FORGED)
    expect(not browser.logged_in(), "a forged cookie was let in")
    browser.bring(FORGED)
    browser.log_in()
    expect(browser.id not in ("", FORGED), "logging in adopted the id that the browser brought")
    other.bring(FORGED)
    expect(not other.logged_in(), "a planted id was logged in")
    say("logged in; a forged cookie is not adopted")


def count(browser: Browser) -> None:
    """Count to three."""
    for number in range(1, 4):
        browser.submit("/counter")
        expect(browser.counter() == number, f"the counter is at {browser.counter()}, not {number}")
    expect(browser.post("/counter").status_code == httpx.codes.FORBIDDEN, "a form without token was taken")
    say("counted to three; a form without its token is refused")


def move_file(server: Server, browser: Browser) -> None:
    """Upload and download a large file while watching the server's memory."""
    before = server.peak_memory()
    started = time.perf_counter()
    browser.upload()
    uploaded = time.perf_counter()
    received = browser.download()
    downloaded = time.perf_counter()
    after = server.peak_memory()
    expect(received == file_checksum(), "the file came back changed")
    say(
        f"uploaded {FILE_SIZE >> 20} MiB in {uploaded - started:.1f} s, downloaded them in "
        f"{downloaded - uploaded:.1f} s, checksums equal"
    )
    if before is None or after is None:
        say("the server's memory is not known on this system")
        return
    growth = f"the server's peak memory grew by {(after - before) / 2**20:.1f} MiB"
    expect(after - before <= MEMORY_LIMIT, f"{growth}, which is more than {MEMORY_LIMIT >> 20} MiB")
    say(f"{growth}, to {after / 2**20:.0f} MiB")


def restart(server: Server, browser: Browser) -> None:
    """Stop the server and start it again on its database."""
    counter = browser.counter()
    server.stop()
    server.start()
    expect(browser.logged_in(), "the log-in is gone after a restart")
    browser.submit("/counter")
    expect(browser.counter() == counter + 1, "the counter did not go on after a restart")
    expect(browser.download() == file_checksum(), "the file changed by a restart")
    say("after a restart: still logged in, the counter goes on, the file is there")


def end_by_key(browser: Browser, other: Browser) -> str:
    """Log in with a second browser and end that from the first; the id that was ended."""
    (own,) = browser.keys()
    other.cookies.clear()
    other.log_in()
    keys = browser.keys()
    expect(len(keys) == len({own, *keys}) == 2, f"{len(keys)} sessions are listed for two log-ins")  # noqa: PLR2004
    ended = other.id
    browser.submit("/sessions/end", key=next(key for key in keys if key != own))
    expect(not other.logged_in(), "a session that was ended by its key lives")
    expect(browser.keys() == [own], "a session that was ended by its key is listed")
    say("a second log-in was listed, and ended by its key")
    return ended


def log_out_everywhere(browser: Browser, other: Browser) -> list[str]:
    """Log out both browsers from one of them; their ids."""
    other.log_in()
    used = [browser.id, other.id]
    browser.submit("/logout", what="all")
    for old in used:
        browser.bring(old)
        expect(not browser.logged_in(), "an old cookie was let in after logging out")
    say("logged out everywhere; old cookies are dead")
    return used


def say(done: str) -> None:
    """Report a step that went well."""
    print(f"ok: {done}", flush=True)  # noqa: T201


def main() -> int:
    """Run the smoke test; 0 if all went well."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the server is stopped then too
    try:
        with new_server() as server:
            smoke(server)
    except (SmokeError, httpx.HTTPError, OSError, subprocess.SubprocessError, LookupError) as error:
        print(f"smoke failed: {error or type(error).__name__}", file=sys.stderr)  # noqa: T201
        return 1
    print("smoke passed")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
