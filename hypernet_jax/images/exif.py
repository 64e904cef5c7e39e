"""Byte-level access to EXIF blocks and the directories of TIFF files.

An EXIF block is a TIFF structure: a header, directories of fields, and the values that do not
fit into them. Parsing and rewriting it would lose fields unknown to the parser, and the offsets
that makers' notes rely on. The block is therefore kept, and only what restoration changes is
overwritten in place: orientation, sizes and the thumbnail.
"""

import dataclasses
import io
import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from hypernet_jax.images.orientation import ORIENTATIONS

__all__ = [
    "LAYOUT_TAGS",
    "Directories",
    "Field",
    "build_block",
    "number",
    "orientation_of",
    "read_directories",
    "serialise",
    "with_pointers",
    "with_size",
    "without_old_picture",
    "without_orientation",
]

# Bytes per value, by type number; types 16 to 18 exist only in BigTIFF.
_WIDTHS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
# The types of BigTIFF, and the narrower types that replace them in other files.
_WIDTHS_OF_BIG = {16: 8, 17: 8, 18: 8}
_NARROWED = {16: ("Q", 4), 17: ("q", 9), 18: ("Q", 13)}
_INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I"}
_SHORT, _LONG = 3, 4
_HEADER = 8

ORIENTATION = 0x112
_EXIF, _GPS, _INTEROP = 0x8769, 0x8825, 0xA005
_RESOLUTIONS = ((0x11A, 0x11B), (0xA20E, 0xA20F))
# Tags of the image directory and of the EXIF directory.
_WIDTHS_OF_IMAGE, _HEIGHTS_OF_IMAGE = (0x100, 0xA002), (0x101, 0xA003)
# Tags of offset and length of a thumbnail, as JPEG and as strips.
_THUMBNAILS = ((0x201, 0x202), (0x111, 0x117))
# Longer chains of directories are assumed to be loops.
_LONGEST_CHAIN = 16


# Exceptions caused by invalid numbers in damaged files.
_UNREADABLE = (ValueError, struct.error, OverflowError, MemoryError)


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a directory: its tag, type number, count and raw value."""

    tag: int
    kind: int
    count: int
    value: bytes


@dataclasses.dataclass(frozen=True)
class _Place:
    """Offsets of a field's entry and of its value, which may be in the entry itself."""

    tag: int
    kind: int
    count: int
    entry: int
    at: int
    size: int


@dataclasses.dataclass(frozen=True)
class Directories:
    """The fields of a TIFF structure.

    Attributes:
      order: "<" or ">", the byte order of all values.
      image: the first directory, without its pointers to the others.
      exif, gps, interop: the directories that it points to.
      damaged: number of fields that could not be read.
    """

    order: str
    image: tuple[Field, ...] = ()
    exif: tuple[Field, ...] = ()
    gps: tuple[Field, ...] = ()
    interop: tuple[Field, ...] = ()
    damaged: int = 0


# Tags of the pixel layout of a TIFF file, of previews of the old picture, and of data that
# `metadata.Metadata` holds separately: XMP and the colour profile.
LAYOUT_TAGS = frozenset(
    (
        *range(254, 260), *range(262, 267), 273, 274, *range(277, 282), 284, *range(288, 294), 297,
        317, *range(320, 329), 330, 332, 333, 334, *range(338, 348), 351, *range(400, 406),
        *range(433, 436), *range(512, 522), *range(529, 533), 559, 700, 32781,
        *range(32995, 32999), 33421, 33422, 34377, 34675, 37724, *range(50706, 50742),
        *range(50778, 50782), *range(50827, 50835), *range(50879, 51182),
    )
)  # fmt: skip


def _header(file: BinaryIO) -> tuple[str, bool, int]:
    """Byte order, whether it is BigTIFF, and the offset of the first directory."""
    file.seek(0)
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise ValueError("no TIFF header")
    version = struct.unpack(order + "H", head[2:4])[0]
    if version == 43 and len(head) == 16:
        return order, True, struct.unpack(order + "Q", head[8:16])[0]
    if version != 42:
        raise ValueError("no TIFF header")
    return order, False, struct.unpack(order + "I", head[4:8])[0]


def _table(file: BinaryIO, order: str, big: bool, start: int) -> tuple[list[_Place], int, int]:
    """The fields of a directory, where the next directory's offset is stored, and that offset."""
    count_form, entry_form, inline = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    entry_size = struct.calcsize("<" + entry_form) + inline
    file.seek(start)
    head = file.read(struct.calcsize("<" + count_form))
    count = struct.unpack(order + count_form, head)[0]  # the caller handles struct.error
    first = start + len(head)
    table = file.read(count * entry_size)
    if len(table) < count * entry_size or count > 1 << 16:
        raise ValueError("a directory is cut short")
    widths = _WIDTHS | (_WIDTHS_OF_BIG if big else {})
    places = []
    for index in range(count):
        entry = index * entry_size
        head_size = entry_size - inline
        tag, kind, n = struct.unpack(order + entry_form, table[entry : entry + head_size])
        size = n * widths.get(kind, 0)
        at = first + entry + head_size
        if size > inline:
            pointer = table[entry + head_size : entry + entry_size]
            at = struct.unpack(order + ("Q" if big else "I"), pointer)[0]
        places.append(_Place(tag, kind, n, first + entry, at, size))
    after = first + count * entry_size
    file.seek(after)
    following = file.read(inline)
    has_next = len(following) == inline
    return places, after, struct.unpack(order + "QI"[not big], following)[0] if has_next else 0


def number(order: str, field: Field) -> int | None:
    """The first value of an integer field; None for other types."""
    form = _INTEGERS.get(field.kind)
    if form is None or not field.count or len(field.value) < struct.calcsize(form):
        return None
    return struct.unpack_from(order + form, field.value)[0]


def _fields(file: BinaryIO, order: str, big: bool, start: int) -> tuple[list[Field], int]:
    """A directory's fields, and the number that could not be read."""
    fields, damaged = [], 0
    places = _table(file, order, big, start)[0]
    file.seek(0, io.SEEK_END)
    length = file.tell()
    for place in places:
        field = None
        # Values of unknown types cannot be read.
        known = place.kind in _WIDTHS or (big and place.kind in _NARROWED)
        if known and place.at + place.size <= length:
            file.seek(place.at)
            field = Field(place.tag, place.kind, place.count, file.read(place.size))
            field = field if field.kind in _WIDTHS else _narrowed(order, field)
        if field is not None:
            fields.append(field)
        elif place.tag not in LAYOUT_TAGS:
            damaged += 1
    return fields, damaged


def _narrowed(order: str, field: Field) -> Field | None:
    """A BigTIFF field with the type of a normal TIFF file; None if a value is too large."""
    form, kind = _NARROWED[field.kind]
    values = struct.unpack(f"{order}{field.count}{form}", field.value)
    try:
        value = struct.pack(f"{order}{field.count}{_INTEGERS[kind]}", *values)
    except struct.error:
        return None
    return Field(field.tag, kind, field.count, value)


def read_directories(file: BinaryIO, *, block: bool = False) -> Directories:
    """All fields of a TIFF file or EXIF block, except those of thumbnails and further pages.

    Args:
      file: open for reading.
      block: it is an EXIF block, which cannot be BigTIFF.

    Raises:
      ValueError: if its first directory cannot be read.
    """
    order, big, start = _header(file)
    if block and big:
        raise ValueError("an EXIF block cannot be BigTIFF")
    try:
        image, damaged = _fields(file, order, big, start)
    except _UNREADABLE:
        raise ValueError("a directory is cut short") from None
    found: dict[int, list[Field]] = {_EXIF: [], _GPS: [], _INTEROP: []}

    def follow(fields: list[Field], tag: int) -> int:
        pointer = next((number(order, field) for field in fields if field.tag == tag), None)
        if pointer is None:
            return 0
        try:
            found[tag], lost = _fields(file, order, big, pointer)
        except _UNREADABLE:
            return 1
        return lost

    damaged += follow(image, _EXIF) + follow(image, _GPS) + follow(found[_EXIF], _INTEROP)
    rest = {
        tag: tuple(field for field in fields if field.tag not in found)
        for tag, fields in {0: image, **found}.items()
    }
    return Directories(order, rest[0], rest[_EXIF], rest[_GPS], rest[_INTEROP], damaged)


def serialise(order: str, fields: Iterable[Field], position: int) -> bytes:
    """A directory with its values, for this offset in a file, as the last in its chain."""
    ordered = sorted(fields, key=lambda field: field.tag)
    table = bytearray(struct.pack(order + "H", len(ordered)))
    values = bytearray()
    start = position + 2 + 12 * len(ordered) + 4
    for field in ordered:
        value = field.value
        if len(value) > 4:
            pointer = struct.pack(order + "I", start + len(values))
            values += value + b"\0" * (len(value) % 2)
        else:
            pointer = value.ljust(4, b"\0")
        table += struct.pack(order + "HHI", field.tag, field.kind, field.count) + pointer
    return bytes(table) + b"\0" * 4 + bytes(values)


def with_pointers(directories: Directories, position: int) -> tuple[bytes, tuple[Field, ...]]:
    """Serialises the EXIF, GPS and interoperability directories, with fields that point to them.

    Args:
      directories: the directories to write.
      position: offset of the bytes in the file; even.

    Returns:
      The bytes, of even length, and the pointer fields for the image directory.
    """
    order, content, pointers = directories.order, b"", []

    def add(fields: tuple[Field, ...], tag: int) -> Field:
        nonlocal content
        start = position + len(content)
        content += serialise(order, fields, start)
        content += b"\0" * (len(content) % 2)
        return Field(tag, _LONG, 1, struct.pack(order + "I", start))

    exif = directories.exif
    if directories.interop:
        exif = (*exif, add(directories.interop, _INTEROP))
    if exif:
        pointers.append(add(exif, _EXIF))
    if directories.gps:
        pointers.append(add(directories.gps, _GPS))
    return content, tuple(pointers)


def build_block(directories: Directories) -> bytes | None:
    """An EXIF block with these fields; None if there are none."""
    order = directories.order
    # The directories that are pointed to come first, so that their offsets are known.
    content, pointers = with_pointers(directories, 8)
    image = (*directories.image, *pointers)
    if not image:
        return None
    start = 8 + len(content)
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    return head + content + serialise(order, image, start)


def _tables(block: bytes) -> Iterator[tuple[list[_Place], int]]:
    """For each directory, the image's first: its fields, and where the next offset is stored."""
    file = io.BytesIO(block)
    order, _, start = _header(file)
    starts, seen = [start], {start}
    while starts:
        try:
            places, after, _ = _table(file, order, False, starts.pop(0))
        except _UNREADABLE:
            continue
        yield places, after
        for place in places:
            points = place.tag in (_EXIF, _GPS, _INTEROP) and place.kind in (_LONG, 13)
            if points and place.count == 1 and len(seen) < _LONGEST_CHAIN:
                (start,) = struct.unpack_from(order + "I", block, place.at)
                starts += [] if start in seen else [start]
                seen.add(start)


def _order(block: bytes) -> str:
    return "<" if block[:2] == b"II" else ">"


def _readable(block: bytes | bytearray, place: _Place) -> bool:
    """Whether a value has a known type and lies inside the block, after its header."""
    inside = place.at >= _HEADER and place.at + place.size <= len(block)
    return place.kind in _WIDTHS and inside


def orientation_of(order: str, fields: Iterable[Field]) -> int | None:
    """The orientation, 1 to 8, in a directory's fields; None if there is none."""
    for field in fields:
        if field.tag == ORIENTATION and number(order, field) in ORIENTATIONS:
            return number(order, field)
    return None


def without_old_picture(block: bytes, *, turned: bool) -> bytes:
    """Sets a block's orientation to upright and removes its thumbnail.

    Args:
      block: from the TIFF header on.
      turned: height and width were swapped; then the two resolutions are swapped too.
    """
    order, changed = _order(block), bytearray(block)
    for index, (places, after) in enumerate(_tables(block)):
        if index == 0:
            for place in places:
                number_there = place.kind in _INTEGERS and place.count > 0
                if place.tag == ORIENTATION and number_there and _readable(block, place):
                    struct.pack_into(order + _INTEGERS[place.kind], changed, place.at, 1)
            _clear_thumbnail(changed, order, after)
        if turned:
            _swap_resolutions(changed, places)
    return bytes(changed)


def _swap_resolutions(block: bytearray, places: list[_Place]) -> None:
    by_tag = {place.tag: place for place in places if _readable(block, place)}
    for across, down in _RESOLUTIONS:
        if across in by_tag and down in by_tag:
            one, other = by_tag[across], by_tag[down]
            if (one.kind, one.count) == (other.kind, other.count):
                values = [bytes(block[p.at : p.at + p.size]) for p in (one, other)]
                block[one.at : one.at + one.size] = values[1]
                block[other.at : other.at + other.size] = values[0]


def _occupied(block: bytes) -> list[tuple[int, int]]:
    """The ranges of a block occupied by its header, directories and values."""
    parts = [(0, 8)]
    for places, after in _tables(block):
        parts.append((after - 12 * len(places) - 2, after + 4))
        parts += [(place.at, place.at + place.size) for place in places if place.size > 4]
    return parts


def _clear_thumbnail(block: bytearray, order: str, after: int) -> None:
    """Unlinks the directories after the first, and clears the pictures that they describe."""
    whole = bytes(block)
    file, occupied = io.BytesIO(whole), _occupied(whole)
    if after + 4 > len(block):
        return
    (following,) = struct.unpack_from(order + "I", block, after)
    struct.pack_into(order + "I", block, after, 0)
    for _ in range(_LONGEST_CHAIN):
        if not following:
            return
        try:
            places, _, following = _table(file, order, False, following)
        except _UNREADABLE:
            return
        by_tag = {place.tag: place for place in places}
        for at, length in _THUMBNAILS:
            if at not in by_tag or length not in by_tag:
                continue
            spans = [_numbers(file, order, by_tag[tag]) for tag in (at, length)]
            for start, size in zip(*spans, strict=False):
                stop = min(start + size, len(block))
                if any(start < end and begin < stop for begin, end in occupied):
                    continue
                if start < stop == len(whole) == len(block):
                    del block[start:]  # nothing comes after it
                elif start < stop:
                    block[start:stop] = bytes(stop - start)


def _numbers(file: BinaryIO, order: str, place: _Place) -> tuple[int, ...]:
    form = _INTEGERS.get(place.kind)
    if form is None:
        return ()
    file.seek(place.at)
    value = file.read(place.size)
    count = len(value) // struct.calcsize(form)
    return struct.unpack(f"{order}{count}{form}", value[: count * struct.calcsize(form)])


def with_size(block: bytes, width: int, height: int) -> bytes:
    """The block with the size of the result in every size field."""
    order, changed = _order(block), bytearray(block)
    sizes = {
        **dict.fromkeys(_WIDTHS_OF_IMAGE, width),
        **dict.fromkeys(_HEIGHTS_OF_IMAGE, height),
    }
    for places, _ in _tables(block):
        for place in places:
            if place.tag in sizes and place.kind in (_SHORT, _LONG) and place.count == 1:
                # Values of both types are stored in the entry, which has room for the longer one.
                kind = _SHORT if place.kind == _SHORT and sizes[place.tag] < 1 << 16 else _LONG
                value = struct.pack(order + _INTEGERS[kind], sizes[place.tag]).ljust(4, b"\0")
                struct.pack_into(order + "H", changed, place.entry + 2, kind)
                changed[place.entry + 8 : place.entry + 12] = value
    return bytes(changed)


def without_orientation(block: bytes) -> bytes:
    """The block without the orientation fields of its first directory."""
    order, changed = _order(block), bytearray(block)
    for places, after in _tables(block):
        kept = [place for place in places if place.tag != ORIENTATION]
        if len(kept) == len(places) or after + 4 > len(block):
            return block
        entries = b"".join(block[place.entry : place.entry + 12] for place in kept)
        start = places[0].entry
        struct.pack_into(order + "H", changed, start - 2, len(kept))
        rest = entries + block[after : after + 4]
        changed[start : after + 4] = rest.ljust(after + 4 - start, b"\0")
        return bytes(changed)
    return block
