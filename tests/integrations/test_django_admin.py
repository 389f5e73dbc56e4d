"""Sessions in Django's admin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def test_sessions_in_the_admin() -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.integrations.django_admin.program"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
