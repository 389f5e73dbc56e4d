"""The Alembic history of the tables, shipped as ``sqlsessions.migrations``."""
