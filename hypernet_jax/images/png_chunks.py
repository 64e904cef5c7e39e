"""Reads and adds chunks of PNG files that do not hold pixels."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["COLOUR", "MOST_TEXT", "TEXT", "Chunk", "read_chunks", "with_chunks"]

Chunk = tuple[bytes, bytes]
# Chunks that describe the colour space without a profile, and chunks of text.
COLOUR = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
TEXT = (b"tEXt", b"zTXt", b"iTXt")
# Bytes of the longest text that is read.
MOST_TEXT = 64 << 20
_SIGNATURE = 8
_HEADER = 12 + 13


def read_chunks(path: Path) -> list[Chunk]:
    """The chunks of colour and text as (type, content), up to any damage."""
    chunks = []
    with path.open("rb") as file:
        file.seek(_SIGNATURE)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"IEND":
                break
            if name not in (*COLOUR, *TEXT):
                file.seek(length + 4, 1)
                continue
            content, check = file.read(length), file.read(4)
            if len(check) < 4:
                break
            if struct.pack(">I", zlib.crc32(name + content)) == check:
                chunks.append((name, content))
    return chunks


def with_chunks(content: bytes, chunks: Iterable[Chunk]) -> bytes:
    """Inserts chunks after the header of a PNG file."""
    start = _SIGNATURE + _HEADER
    added = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return content[:start] + added + content[start:]
