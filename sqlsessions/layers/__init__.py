"""Layers over storages: `EncryptedStorage`, `CompressedStorage`; and keys for them, from the environment or a file."""

from .._keys import keys_from_environment, keys_from_file

__all__ = ["keys_from_environment", "keys_from_file"]
