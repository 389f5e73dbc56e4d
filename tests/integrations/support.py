"""What the tests of integrations share."""

from __future__ import annotations

import json
from typing import Any


class CountingSerializer:
    """JSON, and how often it was encoded and decoded."""

    def __init__(self) -> None:
        self.dumped = self.loaded = 0

    def dumps(self, value: dict[str, Any]) -> bytes:
        self.dumped += 1
        return json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        self.loaded += 1
        return json.loads(data)


class SplitCookies(dict[str, str]):
    """Headers of a request whose cookies come in several headers, the one given among them."""

    def items(self) -> Any:
        others = [item for item in super().items() if item[0] != "Cookie"]
        mine = f"other=1; {self['Cookie']}"
        name = self["Cookie"].partition("=")[0]
        return [*others, ("Cookie", "more=2"), ("Cookie", mine), ("Cookie", f"{name}=no-id-of-ours")]
