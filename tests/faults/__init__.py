"""Faults around the storages: servers that die, connections that are cut, disks that are full."""
