"""Histories of several processes, checked for linearizability while things break around them.

`python -m tests.faults.linearizability --help` tells how to record and check more of them.
"""
