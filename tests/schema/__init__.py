"""Tests of the migrations, `sqlsessions.schema` and the command line."""
