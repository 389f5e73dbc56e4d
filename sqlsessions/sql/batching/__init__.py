"""Batching: operations queued while a connection is busy are sent as one batch."""
