"""The documentation site: what `make docs` adds to the pages."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

from tools.site import KEPT, MODULES, inventory, on_page_markdown, public

ROOT = Path(__file__).parent.parent
INTEGRATIONS = {
    file.stem for file in (ROOT / "sqlsessions" / "integrations").glob("[!_]*") if file.name != "__pycache__"
}


def test_links_out_of_the_folder_lead_to_the_project() -> None:
    text = "[a](../README.md#purge), [b](../../CONTRIBUTING.md), [c](django.md), `..`"
    assert (
        on_page_markdown(text)
        == f"[a]({KEPT}README.md#purge), [b]({KEPT}CONTRIBUTING.md), [c](django.md), `..`"
    )


def test_the_names_of_an_inventory() -> None:
    lines = b"a.b py:class 1 a/#$ -\na.c py:function 1 a/#$ -\n"
    assert inventory(b"# 1\n# 2\n# 3\n# 4\n" + zlib.compress(lines)) == {"a.b", "a.c"}


def test_every_public_name_is_looked_for() -> None:
    assert {"sqlsessions.SqlSessionStorage", "sqlsessions.integrations.flask.change"} <= public()
    described = set(re.findall(r"^::: (\S+)", pages("reference/*.md"), re.MULTILINE))
    assert described >= set(MODULES)
    looked_for = {module.rpartition(".")[2] for module in MODULES if ".integrations." in module}
    assert looked_for == INTEGRATIONS


def pages(pattern: str) -> str:
    return "\n".join(page.read_text() for page in sorted((ROOT / "docs").glob(pattern)))
