"""Fuzzers of what reads bytes of others, and the corpora that they found."""
