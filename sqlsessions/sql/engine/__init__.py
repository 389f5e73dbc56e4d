"""Connections to a database: engines, checkouts, retries."""
