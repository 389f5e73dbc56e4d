"""The SQL statements, built from the declared tables."""
