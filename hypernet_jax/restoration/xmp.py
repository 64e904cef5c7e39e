"""XMP packets: kept as they are, but for what turning and resizing a picture changes."""

import re
from xml.parsers import expat

from hypernet_jax.restoration.orientation import ORIENTATIONS

__all__ = ["ORIENTATION", "SIZES", "THUMBNAILS", "orientation_of", "without"]

_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_XAP = "http://ns.adobe.com/xap/1.0/"
# What a prefix means in a packet that does not declare it.
_USUAL = {"tiff": _TIFF, "exif": _EXIF, "xmp": _XAP, "xap": _XAP}
# Properties of the old picture, which may not fit the restored one.
ORIENTATION = frozenset({(_TIFF, "Orientation")})
SIZES = frozenset(
    {
        (_TIFF, "ImageWidth"),
        (_TIFF, "ImageLength"),
        (_EXIF, "PixelXDimension"),
        (_EXIF, "PixelYDimension"),
    }
)
THUMBNAILS = frozenset({(_XAP, "Thumbnails")})
_NAME = re.compile(rb"[^\s/>]+")
_ATTRIBUTE = re.compile(rb"\s+([^\s=/>]+)\s*=\s*(\"[^\"]*\"|'[^']*')", re.DOTALL)


class _Properties:
    """Where a packet holds certain properties, as attributes or elements, and their values."""

    def __init__(self, packet: bytes, wanted: frozenset[tuple[str, str]]):
        self.found: list[tuple[tuple[int, int], str]] = []
        self._wanted = wanted
        self._packet = packet
        self._prefixes: list[dict[str, str]] = [_USUAL]
        self._open: list[tuple[int, tuple[str, str], list[str]]] = []
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.Parse(packet, True)

    def _meaning(self, name: str) -> tuple[str, str]:
        prefix, _, local = name.rpartition(":")
        return self._prefixes[-1].get(prefix, ""), local

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        declared = {
            key.partition(":")[2]: value
            for key, value in attributes.items()
            if key == "xmlns" or key.startswith("xmlns:")
        }
        self._prefixes.append(self._prefixes[-1] | declared)
        start = self._parser.CurrentByteIndex
        self._open.append((start, self._meaning(name), []))
        for key, value in attributes.items():
            if self._meaning(key) in self._wanted:
                self.found.append((self._tag(start)[0][key.encode()], value))

    def _tag(self, start: int) -> tuple[dict[bytes, tuple[int, int]], int, bool]:
        """Spans of a tag's attributes, its end, and whether it closes itself."""
        at = _NAME.match(self._packet, start + 1).end()  # type: ignore[union-attr]
        spans = {}
        while found := _ATTRIBUTE.match(self._packet, at):
            spans[found[1]] = found.span()
            at = found.end()
        stop = self._packet.index(b">", at) + 1
        return spans, stop, self._packet[stop - 2 : stop] == b"/>"

    def _text(self, data: str) -> None:
        if self._open:
            self._open[-1][2].append(data)

    def _end(self, name: str) -> None:
        del name
        start, meaning, text = self._open.pop()
        self._prefixes.pop()
        if meaning in self._wanted:
            _, stop, empty = self._tag(start)
            if not empty:
                stop = self._packet.index(b">", self._parser.CurrentByteIndex) + 1
            self.found.append(((start, stop), "".join(text)))


def _properties(
    packet: bytes, wanted: frozenset[tuple[str, str]]
) -> list[tuple[tuple[int, int], str]] | None:
    # Padding with zeros may follow the packet.
    try:
        return _Properties(packet.rstrip(b"\0"), wanted).found
    except (expat.ExpatError, ValueError, KeyError):
        return None


def orientation_of(packet: bytes) -> int | None:
    """The orientation, 1 to 8, that a packet tells; None if it tells none or is no XML."""
    for _, value in _properties(packet, ORIENTATION) or []:
        if value.strip() in {str(number) for number in ORIENTATIONS}:
            return int(value)
    return None


def without(packet: bytes, properties: frozenset[tuple[str, str]]) -> bytes | None:
    """The packet without these properties; None if it is no XML."""
    found = _properties(packet, properties)
    if found is None:
        return None
    parts, at = [], 0
    for (start, stop), _ in sorted(found):
        if start < at:
            continue  # inside one that is gone already
        parts.append(packet[at:start])
        at = stop
    return b"".join([*parts, packet[at:]])
