"""Builds and reads EXIF blocks for tests, independently of the package."""

import struct

import numpy as np
from hypothesis import strategies as st

from hypernet_jax.images.exif import LAYOUT_TAGS

EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005
WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
# Tags that restoration changes: orientation, sizes, thumbnails, resolutions.
CHANGED = {0x100, 0x101, 0x112, 0x11A, 0x11B, 0x128, 0xA002, 0xA003, 0xA20E, 0xA20F}
POINTERS = {EXIF, GPS, INTEROP}

Fields = dict[int, tuple[int, int, bytes]]


def build(order: str, directories: dict[int, Fields]) -> bytes:
    """A block with directories by the tag that points to them, 0: the first; values come first."""
    content = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 0))
    places: dict[int, int] = {}

    def add(fields: Fields, pointers: dict[int, int]) -> int:
        entries = {}
        for tag, (kind, count, value) in fields.items():
            inline = value.ljust(4, b"\0")
            if len(value) > 4:
                inline = struct.pack(order + "I", len(content))
                content.extend(value + b"\0" * (len(value) % 2))
            entries[tag] = struct.pack(order + "HHI", tag, kind, count) + inline
        for tag, place in pointers.items():
            entries[tag] = struct.pack(order + "HHII", tag, 4, 1, place)
        start = len(content)
        content.extend(struct.pack(order + "H", len(entries)))
        content.extend(b"".join(entries[tag] for tag in sorted(entries)) + bytes(4))
        return start

    if INTEROP in directories:
        places[INTEROP] = add(directories[INTEROP], {})
    if EXIF in directories or places:
        places = {EXIF: add(directories.get(EXIF, {}), places)}
    if GPS in directories:
        places[GPS] = add(directories[GPS], {})
    struct.pack_into(order + "I", content, 4, add(directories.get(0, {}), places))
    return bytes(content)


def read(block: bytes, start: int | None = None) -> dict[int, Fields]:
    """The directories of a block, or of a whole TIFF file."""
    order = "<" if block[:2] == b"II" else ">"
    if start is None:
        (start,) = struct.unpack_from(order + "I", block, 4)
    fields: Fields = {}
    found = {0: fields}
    for index in range(struct.unpack_from(order + "H", block, start)[0]):
        tag, kind, count = struct.unpack_from(order + "HHI", block, start + 2 + 12 * index)
        at = start + 10 + 12 * index
        if tag in POINTERS and kind == 4:
            below = read(block, struct.unpack_from(order + "I", block, at)[0])
            found[tag] = below.pop(0)
            found |= below
            continue
        size = WIDTHS[kind] * count
        if size > 4:
            (at,) = struct.unpack_from(order + "I", block, at)
        fields[tag] = (kind, count, block[at : at + size])
    return found


@st.composite
def directories(draw) -> dict[int, Fields]:
    """Random fields of all types and counts in all directories, with tags not reserved by TIFF."""
    tags = st.integers(1, 0xFFFF).filter(
        lambda tag: tag not in LAYOUT_TAGS | CHANGED | POINTERS | {33723}
    )
    field = st.tuples(st.sampled_from(sorted(WIDTHS)), st.integers(0, 5), st.integers(0, 2**32 - 1))
    found = {}
    for pointer in (0, EXIF, GPS, INTEROP):
        chosen = draw(st.dictionaries(tags, field, max_size=6))
        if chosen:
            found[pointer] = {
                tag: (kind, count, np.random.default_rng(seed).bytes(WIDTHS[kind] * count))
                for tag, (kind, count, seed) in chosen.items()
            }
    return found
