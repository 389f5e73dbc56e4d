"""Runs a fuzzer: ``python -m tests.fuzz TARGET [CORPUS] [-max_total_time=SECONDS ...]``; needs atheris."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["sqlsessions"]):
    from .targets import TARGETS

if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
    sys.exit(f"which target? {', '.join(TARGETS)}")
target = TARGETS[sys.argv.pop(1)]
atheris.Setup(sys.argv, target)
atheris.Fuzz()
