"""XMP packets: removes properties that do not hold for the restored picture."""

import re
from xml.parsers import expat

from hypernet_jax.images.orientation import ORIENTATIONS

__all__ = [
    "APPENDED",
    "ORIENTATION",
    "RESOLUTIONS",
    "SIZES",
    "THUMBNAILS",
    "VIDEO",
    "orientation_of",
    "values_of",
    "without",
]

Properties = frozenset[tuple[str, str]]

_TIFF, _EXIF = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/"
_XAP = "http://ns.adobe.com/xap/1.0/"
_NOTE = "http://ns.adobe.com/xmp/note/"
_GAIN_MAP = "http://ns.adobe.com/hdr-gain-map/1.0/"
_CAMERA = "http://ns.google.com/photos/1.0/camera/"
_CONTAINER = "http://ns.google.com/photos/1.0/container/"
_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
# Namespaces of prefixes that a packet does not declare.
_USUAL = {"tiff": _TIFF, "exif": _EXIF, "xmp": _XAP, "xap": _XAP, "rdf": _RDF}
_VALUE = (_RDF, "value")
# Elements that may enclose a property of the picture; inside others it describes something else.
_FRAME = ("xmpmeta", "xapmeta", "RDF", "Description", "rdf")
# Properties of the old picture, which may not fit the restored one.
ORIENTATION: Properties = frozenset({(_TIFF, "Orientation")})
SIZES: Properties = frozenset(
    {
        (_TIFF, "ImageWidth"),
        (_TIFF, "ImageLength"),
        (_EXIF, "PixelXDimension"),
        (_EXIF, "PixelYDimension"),
    }
)
RESOLUTIONS: Properties = frozenset({(_TIFF, "XResolution"), (_TIFF, "YResolution")})
THUMBNAILS: Properties = frozenset({(_XAP, "Thumbnails")})
# Of a motion photograph: 1 if a video follows the picture.
VIDEO: Properties = frozenset({(_CAMERA, "MotionPhoto"), (_CAMERA, "MicroVideo")})
# Describe what follows the picture in its file and the restored one lacks: videos, gain maps, depth
# maps and further XMP.
APPENDED: Properties = VIDEO | {
    *((_CAMERA, f"MotionPhoto{name}") for name in ("Version", "PresentationTimestampUs")),
    *((_CAMERA, f"MicroVideo{name}") for name in ("Version", "Offset", "PresentationTimestampUs")),
    (_CONTAINER, "Directory"),
    (_GAIN_MAP, "Version"),
    (_NOTE, "HasExtendedXMP"),
}
# Nested elements, and namespaces in scope; packets have about ten and thirty.
_DEEPEST, _MOST_PREFIXES = 64, 512
_NAME = re.compile(rb"[^\s/>]+")
_ATTRIBUTE = re.compile(rb"\s+([^\s=/>]+)\s*=\s*(\"[^\"]*\"|'[^']*')", re.DOTALL)


class _Reader:
    """Finds the positions and values of the picture's properties in a UTF-8 packet."""

    def __init__(self, packet: bytes, wanted: Properties):
        self.found: list[tuple[tuple[int, int], str]] = []
        self._wanted, self._packet = wanted, packet
        self._prefixes: list[dict[str, str]] = [_USUAL]
        # For each open element: its start, name and text, and whether a property in it describes
        # the picture.
        self._open: list[tuple[int, tuple[str, str], list[str], bool]] = []
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._text
        self._parser.Parse(packet, True)

    def _meaning(self, name: str) -> tuple[str, str]:
        prefix, _, local = name.rpartition(":")
        return self._prefixes[-1].get(prefix, ""), local

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) == _DEEPEST:
            raise ValueError("too deep")
        declared = {
            key.partition(":")[2]: value
            for key, value in attributes.items()
            if key == "xmlns" or key.startswith("xmlns:")
        }
        if len(declared) + len(self._prefixes[-1]) > _MOST_PREFIXES:
            raise ValueError("too many namespaces")
        self._prefixes.append(self._prefixes[-1] | declared if declared else self._prefixes[-1])
        start = self._parser.CurrentByteIndex
        of_picture = self._open[-1][3] if self._open else True
        meaning = self._meaning(name)
        frame = of_picture and meaning[1] in _FRAME
        # A value may be an attribute of the property itself.
        inner = [
            value for key, value in attributes.items() if self._meaning(key) == (_RDF, "value")
        ]
        self._open.append((start, meaning, inner, frame))
        for key, value in attributes.items():
            if frame and self._meaning(key) in self._wanted:
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
        for element in self._open:
            element[2].append(data)

    def _end(self, name: str) -> None:
        del name
        start, meaning, text, _ = self._open.pop()
        self._prefixes.pop()
        of_picture = self._open[-1][3] if self._open else True
        if of_picture and meaning in self._wanted:
            _, stop, empty = self._tag(start)
            if not empty:
                stop = self._packet.index(b">", self._parser.CurrentByteIndex) + 1
            self.found.append(((start, stop), "".join(text)))


def _as_utf8(packet: bytes) -> bytes:
    """The packet as UTF-8 without byte order mark and padding, for XML parsers."""
    text = None
    if packet[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = packet.decode("utf-16", "replace")
    elif packet[:4].count(0) == 2:
        text = packet.decode("utf-16-le" if packet[1] == 0 else "utf-16-be", "replace")
    if text is not None:
        # Its encoding declaration is now wrong.
        packet = re.sub(r"encoding=[\"'][^\"']*[\"']", "", text, count=1).encode()
    packet = packet.removeprefix(b"\xef\xbb\xbf").lstrip().rstrip(b"\0 \t\r\n")
    try:
        packet.decode("utf-8")
    except UnicodeDecodeError:
        packet = packet.decode("latin-1").encode()
    return packet


def _read(packet: bytes, wanted: Properties) -> list[tuple[tuple[int, int], str]] | None:
    try:
        return _Reader(packet, wanted).found
    except (expat.ExpatError, ValueError, KeyError, AttributeError):
        return None


def _orientation(value: str) -> int | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number in ORIENTATIONS else None


def values_of(packet: bytes, properties: Properties) -> list[str]:
    """The values that the picture has of these properties; none if the packet is not valid XML."""
    return [value for _, value in _read(_as_utf8(packet), properties) or []]


def orientation_of(packet: bytes) -> int | None:
    """The picture's orientation in a packet, 1 to 8; None if there is none."""
    for value in values_of(packet, ORIENTATION):
        if (found := _orientation(value)) is not None:
            return found
    return None


def without(packet: bytes, properties: Properties) -> bytes | None:
    """The packet without these properties; None if it is not valid XML.

    A packet without them is returned unchanged. An invalid orientation is kept.
    """
    readable = _as_utf8(packet)
    found = _read(readable, properties)
    if found is None:
        return None
    parts, at = [], 0
    for (start, stop), value in sorted(found):
        if start < at:
            continue  # inside one that is already removed
        if properties == ORIENTATION and _orientation(value) is None:
            continue
        parts.append(readable[at:start])
        at = stop
    return b"".join([*parts, readable[at:]]) if at else packet
