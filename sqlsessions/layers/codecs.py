"""The format of compressed sessions: blocks, each compressed if that makes it smaller.

Data that is not compressed is stored as it is, unless it begins as a compressed session does::

    session  "sqC1", then blocks
    block    1 byte: how it is compressed, with the highest bit set in the last block
             4 bytes: how many bytes of data; 4 bytes: how many are stored; the stored bytes

A block has at most 64 KiB of data, so that no stored bytes, whatever they are, decompress to more at once.
"""

from __future__ import annotations

import importlib
import struct
import sys
import zlib
from collections.abc import Callable
from typing import Any

from ..errors import SessionCorrupt

MAGIC = b"sqC1"
BLOCK = 64 * 1024
HEAD = struct.Struct(">BII")
LAST = 0x80
PLAIN, DEFLATE, ZSTD = 0, 1, 2
LEVELS = {DEFLATE: 9, ZSTD: 19}
DEFAULT_LEVELS = {DEFLATE: 6, ZSTD: 3}

DAMAGED = "a session's compressed data is damaged: it cannot be decompressed"


def _zstd() -> tuple[Any, bool]:
    """The module for zstd, and whether it is that of the standard library; None if there is none."""
    candidates = ("compression.zstd", "zstandard") if sys.version_info >= (3, 14) else ("zstandard",)
    for name in candidates:
        try:
            return importlib.import_module(name), name == "compression.zstd"
        except ImportError:
            continue
    return None, False


_MODULE, _STANDARD = _zstd()
BEST = DEFLATE if _MODULE is None else ZSTD
"""How data is compressed here."""


class Codec:
    """Makes blocks.

    Args:
        kind: How to compress.
        level: How thoroughly.
        max_ratio: How many times its stored size the data of a block may be.
    """

    def __init__(self, kind: int, level: int, max_ratio: int) -> None:
        self._kind = kind
        self._level = level
        self._max_ratio = max_ratio

    def block(self, data: bytes | bytearray, *, last: bool) -> bytes:
        """Data as a block, compressed if that makes it smaller."""
        kind, stored = self._kind, self._compressed(data)
        # What is very small is filled up, so that the bound on the ratio refuses nothing that was written here.
        stored = stored.ljust(-(-len(data) // self._max_ratio), b"\0")
        if len(stored) >= len(data):
            kind, stored = PLAIN, bytes(data)
        return HEAD.pack(kind | LAST if last else kind, len(data), len(stored)) + stored

    def _compressed(self, data: bytes | bytearray) -> bytes:
        if self._kind == DEFLATE:
            return zlib.compress(data, self._level)
        if _STANDARD:
            compressed: bytes = _MODULE.compress(data, self._level)
        else:  # a compressor serves one thread at a time, and is cheap to make
            compressed = _MODULE.ZstdCompressor(level=self._level).compress(data)
        return compressed


def head_of(head: bytes, max_ratio: int) -> tuple[int, bool, int, int]:
    """What the head of a block says: how it is compressed, whether it is the last, and both sizes.

    Raises:
        SessionCorrupt: If it is none, or the sizes are out of bounds.
    """
    if len(head) != HEAD.size:
        raise SessionCorrupt(DAMAGED)
    kind, size, stored = HEAD.unpack(head)
    if size > BLOCK or stored > size or size > stored * max_ratio:
        raise SessionCorrupt(
            "a session's compressed data claims to be larger than may be: it is not decompressed"
        )
    return kind & ~LAST, bool(kind & LAST), size, stored


def decompressed(kind: int, stored: bytes, size: int) -> bytes:
    """The data of a block.

    Raises:
        SessionCorrupt: If it is damaged, or has another size than its head says.
    """
    if (decompress := _DECOMPRESS.get(kind)) is None:
        raise SessionCorrupt(
            "a session is compressed in a way that this version of sqlsessions does not know"
        )
    try:
        data = decompress(stored, size)
    except SessionCorrupt:
        raise
    except Exception:  # noqa: BLE001 (each library has its own)
        raise SessionCorrupt(DAMAGED) from None
    if len(data) != size:
        raise SessionCorrupt(DAMAGED)
    return data


def _from_zlib(stored: bytes, size: int) -> bytes:
    return zlib.decompressobj().decompress(stored, size + 1)


def _from_zstd(stored: bytes, size: int) -> bytes:
    if _MODULE is None:
        raise SessionCorrupt("a session is compressed with zstd: pip install 'sqlsessions[zstd]'")
    if _STANDARD:
        data: bytes = _MODULE.ZstdDecompressor().decompress(stored, size + 1)
    elif _MODULE.get_frame_parameters(stored).content_size == size:  # which is what is allocated
        data = _MODULE.ZstdDecompressor(max_window_size=2 * BLOCK).decompress(stored, max_output_size=size)
    else:
        raise SessionCorrupt(DAMAGED)
    return data


_DECOMPRESS: dict[int, Callable[[bytes, int], bytes]] = {
    PLAIN: lambda stored, _: stored,
    DEFLATE: _from_zlib,
    ZSTD: _from_zstd,
}
