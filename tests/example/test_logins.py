"""Logging in and out, counting, and listing and ending sessions."""

import asyncio

import pytest

from examples.fastapi_service.app import create_app
from examples.fastapi_service.devices import name_of
from sqlsessions import ManagedSessionStorage, SqlSessionStorage, StorageUnavailable

from .browser import Browser, count


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/"), ("GET", "/file"), ("POST", "/counter"), ("POST", "/file"), ("POST", "/logout")],
)
async def test_without_a_session_asks_to_log_in(browser: Browser, method: str, path: str) -> None:
    response = await browser.request(method, path)
    assert response.url.path == "/login"
    assert "no password is asked for" in response.text


async def test_log_in_and_out(browser: Browser, storage: ManagedSessionStorage) -> None:
    response = await browser.post("/login", data={"user": "ada"}, follow_redirects=False)
    assert response.status_code == 303
    assert response.headers["set-cookie"] == f"session={browser.id}; HttpOnly; Path=/; SameSite=lax"
    page = await browser.get("/")
    assert "Hello, ada" in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")

    await browser.upload("a.txt", b"a")
    old = browser.id
    assert (await browser.submit("/logout")).url.path == "/login"
    assert "session" not in browser.cookies
    browser.cookies.set("session", old)
    assert (await browser.get("/")).url.path == "/login"
    assert await count(storage.sessions()) == 0


async def test_cookie_is_secure_over_https(storage: ManagedSessionStorage) -> None:
    async with Browser(storage, "https") as browser:
        response = await browser.post("/login", data={"user": "ada"}, follow_redirects=False)
        assert "; Secure" in response.headers["set-cookie"]


@pytest.mark.parametrize("user", ["", "   ", "a\nb", "a\0b", "x" * 65])
async def test_refuses_bad_names(browser: Browser, user: str) -> None:
    response = await browser.post("/login", data={"user": user})
    assert response.status_code == 400
    assert 'role="alert"' in response.text
    assert "session" not in browser.cookies


async def test_log_in_from_another_site_is_refused(browser: Browser) -> None:
    response = await browser.post("/login", data={"user": "eve"}, headers={"Sec-Fetch-Site": "cross-site"})
    assert response.status_code == 403
    assert "session" not in browser.cookies


async def test_escapes_what_it_shows(browser: Browser) -> None:
    page = await browser.log_in("<script>\"&'")
    assert "<script>" not in page
    assert "Hello, &lt;script&gt;&quot;&amp;&#x27;" in page
    page = (await browser.upload("<b>.txt", b"", "text/plain")).text
    assert "&lt;b&gt;.txt" in page
    assert "<b>" not in page


async def test_counter_loses_nothing(browser: Browser) -> None:
    await browser.log_in()
    csrf = await browser.csrf()
    await asyncio.gather(*(browser.post("/counter", data={"csrf": csrf}) for _ in range(20)))
    assert await browser.counter() == 20


@pytest.mark.parametrize("csrf", ["", "0" * 64, "ü"])
async def test_forms_without_their_token_are_refused(browser: Browser, csrf: str) -> None:
    await browser.log_in()
    await browser.upload("a.txt", b"old")
    for path in ("/counter", "/sessions/end", "/logout"):
        assert (await browser.post(path, data={"csrf": csrf})).status_code == 403
    upload = await browser.post("/file", data={"csrf": csrf}, files={"file": ("a.txt", b"new")})
    assert upload.status_code == 403
    assert await browser.counter() == 0
    assert (await browser.get("/file")).content == b"old"


async def test_a_token_serves_one_session_only(browser: Browser, other: Browser) -> None:
    await browser.log_in()
    await other.log_in()
    assert (await browser.post("/counter", data={"csrf": await other.csrf()})).status_code == 403


@pytest.mark.parametrize("forged", ["A" * 43, "x", "x" * 5000, "file:abc", ""])
async def test_forged_cookies_are_never_adopted(
    browser: Browser, storage: ManagedSessionStorage, forged: str
) -> None:
    browser.cookies.set("session", forged, domain="service.example", path="/")
    assert (await browser.get("/")).url.path == "/login"
    browser.cookies.set("session", forged, domain="service.example", path="/")
    await browser.log_in()
    assert browser.id != forged
    assert await count(storage.sessions()) == 1


async def test_an_upload_is_no_log_in(browser: Browser, other: Browser) -> None:
    await browser.log_in()
    await browser.upload("a", b'{"counter": 7}')
    other.cookies.set("session", f"file:{(await browser.keys())[0]}", domain="service.example")
    assert (await other.get("/")).url.path == "/login"


async def test_logging_in_again_is_a_fresh_session(browser: Browser, storage: ManagedSessionStorage) -> None:
    await browser.log_in()
    await browser.upload("a.txt", b"a")
    old = browser.id
    await browser.log_in("bob")
    assert browser.id != old
    assert await storage.info(old) is None
    assert [info.subject async for info in storage.sessions()] == ["user:bob"]


async def test_lists_and_ends_one(browser: Browser, other: Browser, storage: ManagedSessionStorage) -> None:
    await browser.log_in()
    await other.log_in()
    await other.upload("a.txt", b"a")
    page = (await browser.get("/")).text
    assert page.count("this one") == 1
    mine, theirs = (await storage.info(browser.id)), (await storage.info(other.id))
    assert mine
    assert theirs
    assert sorted(await browser.keys()) == sorted([mine.key, theirs.key])

    await browser.submit("/sessions/end", key=theirs.key)
    assert await browser.keys() == [mine.key]
    assert (await other.get("/")).url.path == "/login"
    assert await count(storage.sessions()) == 1
    assert (await browser.submit("/sessions/end", key=theirs.key)).status_code == 404
    assert (await browser.submit("/sessions/end", key=mine.key)).url.path == "/login"


async def test_nobody_ends_anothers_session(browser: Browser, other: Browser) -> None:
    await browser.log_in("ada")
    await other.log_in("bob")
    theirs = (await other.keys())[0]
    assert (await browser.submit("/sessions/end", key=theirs)).status_code == 404
    assert await other.keys() == [theirs]


@pytest.mark.parametrize(("what", "stays"), [("others", True), ("all", False)])
async def test_logs_out_many(
    browser: Browser, other: Browser, storage: ManagedSessionStorage, what: str, stays: bool
) -> None:
    for one in (browser, other):
        await one.log_in()
        await one.upload("a.txt", b"a")
    async with Browser(storage) as bystander:
        await bystander.log_in("user:ada")
        page = await browser.submit("/logout", what=what)
        assert page.url.path == ("/" if stays else "/login")
        assert (await other.get("/")).url.path == "/login"
        assert (await bystander.get("/")).url.path == "/"
    if stays:
        assert (await browser.get("/file")).content == b"a"
    assert await count(storage.sessions()) == (3 if stays else 1)


async def test_an_unavailable_storage_says_so(
    browser: Browser, storage: ManagedSessionStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await browser.log_in()

    async def load(*_: object) -> None:
        raise StorageUnavailable("gone")

    monkeypatch.setattr(storage, "load", load)
    response = await browser.get("/")
    assert response.status_code == 503
    assert "Sessions cannot be reached" in response.text


async def test_style_and_unknown_pages(browser: Browser) -> None:
    style = await browser.get("/style.css")
    assert style.headers["content-type"].startswith("text/css")
    unknown = await browser.get("/unknown")
    assert unknown.status_code == 404
    assert "<h1>" in unknown.text


async def test_the_app_closes_its_storage(storage: ManagedSessionStorage) -> None:
    app = create_app(storage)
    async with app.router.lifespan_context(app):
        await storage.write_bytes("id", b"")
    if isinstance(storage, SqlSessionStorage):
        with pytest.raises(StorageUnavailable):
            await storage.info("id")


async def test_devices_have_names_and_what_they_hold(browser: Browser) -> None:
    browser.headers["user-agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
    await browser.log_in()
    assert "Firefox on Linux" in (await browser.get("/")).text
    await browser.upload("a.bin", bytes(3_000_000))
    assert "2.9 MiB</td>" in (await browser.get("/")).text


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Mozilla/5.0 (Windows NT 10.0) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0", "Edge on Windows"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Safari/604.1", "Safari on iPhone"),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/140.0.0.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.5.0", "curl"),
        ("", "A browser"),
    ],
)
def test_names_of_devices(agent: str, name: str) -> None:
    assert name_of(agent) == name


async def test_one_learns_why_one_was_logged_out(browser: Browser, other: Browser) -> None:
    assert 'id="reason"' not in (await browser.get("/")).text
    await browser.log_in()
    await other.log_in()
    await other.submit("/logout", what="others")
    assert "Your session has ended" in (await browser.get("/")).text
    assert 'id="reason"' not in (await browser.get("/")).text
    assert "You have logged out everywhere" in (await other.submit("/logout", what="all")).text
    await browser.log_in()
    assert "You have logged out." in (await browser.submit("/logout", what="this")).text
