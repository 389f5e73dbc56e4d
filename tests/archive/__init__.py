"""Archives: all sessions in one file, and out of it again."""
