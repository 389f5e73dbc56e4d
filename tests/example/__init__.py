"""Tests of the example service, in process."""
