"""Fixtures of the fault tests."""

from ..sql.conftest import clock
from .reports import pytest_terminal_summary, reports

__all__ = ["clock", "pytest_terminal_summary", "reports"]
