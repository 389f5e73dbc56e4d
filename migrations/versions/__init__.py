"""The revisions; they import nothing of sqlsessions, so that they mean the same forever."""
