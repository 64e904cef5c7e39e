"""Chunks of PNG files beside their pixels."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

__all__ = ["COLOUR", "TEXT", "Chunk", "read_chunks", "with_chunks"]

Chunk = tuple[bytes, bytes]
# What tells the colours without a profile, and what people wrote.
COLOUR = (b"gAMA", b"cHRM", b"sRGB", b"cICP", b"mDCV", b"cLLI")
TEXT = (b"tEXt", b"zTXt", b"iTXt")
_SIGNATURE = 8
_HEADER = 12 + 13


def read_chunks(path: Path) -> list[Chunk]:
    """The chunks of colour and text, as (type, content), as far as the file is intact."""
    chunks = []
    with path.open("rb") as file:
        file.seek(_SIGNATURE)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
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
    """A PNG file with these chunks between its header and whatever follows."""
    start = _SIGNATURE + _HEADER
    added = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return content[:start] + added + content[start:]
