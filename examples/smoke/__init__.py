"""Try the example service as its users would: over HTTP, with a real server on a new database.

``python -m examples.smoke`` exits with 0, or says what failed.
"""


class SmokeError(Exception):
    """The service did not do what it should."""


def expect(condition: object, otherwise: str) -> None:
    """Fail the smoke test unless the condition holds."""
    if not condition:
        raise SmokeError(otherwise)
