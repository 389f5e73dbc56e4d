"""Fixtures of the fault tests."""

from .reports import pytest_terminal_summary, reports

__all__ = ["pytest_terminal_summary", "reports"]
