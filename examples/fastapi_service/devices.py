"""Names for the devices that users log in with, from what their browsers say of themselves."""

BROWSERS = {
    "Edg": "Edge",
    "OPR/": "Opera",
    "Firefox/": "Firefox",
    "Chrome/": "Chrome",
    "Safari/": "Safari",
    "curl/": "curl",
}
SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "Macintosh": "Mac",
    "CrOS": "ChromeOS",
    "Linux": "Linux",
}
"""What is looked for in ``User-Agent``, in this order: Edge says that it is Chrome too, and Chrome that it is Safari."""


def name_of(user_agent: str) -> str:
    """A name such as "Firefox on Linux"."""
    browser = next((name for sign, name in BROWSERS.items() if sign in user_agent), "A browser")
    system = next((name for sign, name in SYSTEMS.items() if sign in user_agent), None)
    return browser if system is None else f"{browser} on {system}"
