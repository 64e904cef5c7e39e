"""Metadata of a photograph: colour, EXIF, XMP, texts and resolution."""

import contextlib
import dataclasses
import io
import mmap
import re
import struct
import zlib
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.ExifTags import Base

from hypernet_jax.images import exif, xmp
from hypernet_jax.images.colour import Colour, colour_of_chunks, nclx_chunks
from hypernet_jax.images.orientation import swaps_sides
from hypernet_jax.images.png_chunks import COLOUR, TEXT, Chunk, read_chunks

__all__ = [
    "IPTC",
    "Metadata",
    "read_metadata",
    "read_raw_metadata",
    "read_tiff_metadata",
    "tiff_dpi",
]

_PREFIX = b"Exif\0\0"
# Bytes of the longest EXIF or XMP data in hex that are read; an EXIF block has at most 64 kB.
_MOST_HEX = 16 << 20
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
IPTC = 33723
_XMP, _PROFILE = int(Base.XMLPacket), int(Base.InterColorProfile)
# Colour space types in the header of a BMP file.
_SRGB_OF_BMP, _WINDOWS_COLOURS = 0x73524742, 0x57696E20
# Colour fields of a TIFF directory; they have no meaning in other formats.
_TIFF_COLOURS = (301, 318, 319)
# Geographic positions of pixels, which are wrong once a picture is turned or enlarged.
_GEOGRAPHIC = (33550, 33922, 34264)

# Fields to keep from a raw file's first directory: description, make, model, time, artist and
# copyright. The other fields, and the maker's notes and sizes in EXIF, describe the sensor's image.
_RAW_KEPT = (0x10E, 0x10F, 0x110, 0x132, 0x13B, 0x8298)
_OF_SENSOR = (0x927C, 0xA002, 0xA003, 0xA005, 0xA302)


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Metadata that is kept from input to output.

    Attributes:
      profile: the ICC profile.
      exif: the EXIF block of the upright picture, from its TIFF header on: its orientation has
        been applied, and the thumbnail of the old picture is removed.
      xmp: the XMP packet, without its orientation and what describes parts of the file that follow
        the picture.
      dpi: (horizontal, vertical) pixels per inch.
      iptc: the IPTC record of a JPEG file.
      comments: comments of a JPEG or GIF file.
      colours: chunks of a PNG file that describe its colour space without a profile.
      texts: text chunks of a PNG file.
      tiff_colours: `exif` includes TIFF fields that describe the colour space.
      size: (width, height) of the upright pixels that it was read with.
    """

    profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    iptc: bytes | None = None
    comments: tuple[bytes, ...] = ()
    colours: tuple[Chunk, ...] = ()
    texts: tuple[Chunk, ...] = ()
    tiff_colours: bool = False
    size: tuple[int, int] | None = None

    def profile_as_shown(self, *, grey: bool) -> bytes | None:
        """The profile, or else one equivalent to `colours`, if possible."""
        if self.profile or self.colour is None:
            return self.profile
        return self.colour.profile(grey=grey)

    @property
    def colour(self) -> Colour | None:
        """The colour space described by `colours`."""
        return colour_of_chunks(self.colours)

    def of_size(self, width: int, height: int) -> "Metadata":
        """The metadata for a result of another size, with the sizes in EXIF and XMP updated."""
        block, packet = self.exif, self.xmp
        if block is not None:
            block = exif.with_size(block, width, height)
        if packet is not None and (width, height) != self.size:
            packet = xmp.without(packet, xmp.SIZES) or packet
        return dataclasses.replace(self, exif=block, xmp=packet, size=(width, height))


def read_metadata(picture: Image.Image, path: Path) -> tuple[Metadata, int, list[str]]:
    """Reads the metadata of a picture.

    Args:
      picture: as Pillow decoded it, with its orientation not applied.
      path: its file, for data that Pillow does not expose.

    Returns:
      The metadata of the upright picture, the orientation to apply, 1 to 8, and short
      notes on what was left out.
    """
    info, notes = picture.info, []
    chunks = read_chunks(path) if picture.format == "PNG" else []
    texts, raw = _without_raw_profiles([chunk for chunk in chunks if chunk[0] in TEXT])
    packet = info.get("xmp") or info.get("XML:com.adobe.xmp") or raw.get(b"xmp")
    if isinstance(packet, str):
        packet = packet.encode()
    if not isinstance(packet, bytes):
        packet = None
    block, more, orientation = _exif_of(picture, raw)
    notes += more
    colours = tuple(chunk for chunk in chunks if chunk[0] in COLOUR)
    if picture.format == "AVIF" and not info.get("icc_profile"):
        colours = nclx_chunks(path)
    if any(content.startswith(_EXTENDED_XMP) for _, content in getattr(picture, "applist", ())):
        notes.append("the part of its XMP data that did not fit into one segment was left out")
    if _has_unread_colours(picture.format, path):
        notes.append("its colour space is stored in an unsupported form and was left out")
    if picture.format in _WITH_VIDEO and _contains(path, _SAMSUNG_VIDEO):
        notes.append(_VIDEO_NOTE)
    photoshop = info.get("photoshop")
    found = Metadata(
        profile=info.get("icc_profile") or None,
        exif=block,
        xmp=packet,
        dpi=_own_dpi(picture) or _exif_dpi(block),
        iptc=photoshop.get(0x0404) if isinstance(photoshop, dict) else None,
        comments=_comments(picture),
        colours=colours,
        texts=tuple(texts),
    )
    return _of_upright(found, orientation, picture.size, notes)


_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_VIDEO_NOTE = "it is a motion photograph: its video was left out"
# Formats that phones append videos to, and what stands before a video where XMP does not name it.
_WITH_VIDEO = ("JPEG", "MPO", "HEIF")
_SAMSUNG_VIDEO = b"MotionPhoto_Data"


def _contains(path: Path, text: bytes) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.rfind(text) >= 0


def read_tiff_metadata(path: Path, size: tuple[int, int]) -> tuple[Metadata, int, list[str]]:
    """As `read_metadata`, for a TIFF file of `size` (width, height), which is itself EXIF data."""
    with path.open("rb") as file:
        try:
            found = exif.read_directories(file)
        except ValueError:
            return Metadata(size=size), 1, ["its EXIF data are damaged and were left out"]
    by_tag = {field.tag: field for field in found.image}

    def value(tag: int) -> bytes | None:
        return by_tag[tag].value if tag in by_tag else None

    orientation = exif.orientation_of(found.order, found.image)
    kept = dataclasses.replace(
        found, image=tuple(field for field in found.image if field.tag not in exif.LAYOUT_TAGS)
    )
    notes = []
    if orientation not in (None, 1) and by_tag.keys() & set(_GEOGRAPHIC):
        fields = tuple(field for field in kept.image if field.tag not in _GEOGRAPHIC)
        kept = dataclasses.replace(kept, image=fields)
        notes.append("its geographic positions were left out, because the picture was turned")
    if found.damaged:
        notes.append(f"{found.damaged} damaged or unknown fields of its metadata were left out")
    metadata = Metadata(
        profile=value(_PROFILE),
        exif=exif.build_block(kept),
        xmp=value(_XMP),
        dpi=tiff_dpi(found.order, by_tag),
        tiff_colours=bool(by_tag.keys() & set(_TIFF_COLOURS)),
    )
    return _of_upright(metadata, orientation, size, notes)


def read_raw_metadata(path: Path, size: tuple[int, int]) -> tuple[Metadata, list[str]]:
    """As `read_metadata`, for a raw file developed to `size` (width, height).

    Reads who took it, with what, when and where from raw files with the layout of TIFF files;
    from others it reads nothing.
    """
    nothing = Metadata(size=size), ["its EXIF and other data were left out"]
    with path.open("rb") as file:
        try:
            found = exif.read_directories(file)
        except ValueError:
            return nothing
    kept = dataclasses.replace(
        found,
        image=tuple(field for field in found.image if field.tag in _RAW_KEPT),
        exif=tuple(field for field in found.exif if field.tag not in _OF_SENSOR),
    )
    block = exif.build_block(kept)
    if block is None:
        return nothing
    return Metadata(exif=block, size=size), []


def _of_upright(
    found: Metadata, orientation: int | None, size: tuple[int, int], notes: list[str]
) -> tuple[Metadata, int, list[str]]:
    """The metadata of a picture turned upright, by its XMP orientation if EXIF has none."""
    packet = found.xmp
    if orientation is None and packet is not None:
        orientation = xmp.orientation_of(packet)
    orientation = orientation or 1
    turned = swaps_sides(orientation)
    if packet is not None:
        upright = xmp.without(packet, xmp.ORIENTATION)
        if upright is None and orientation != 1:
            notes.append("its XMP data are damaged and were left out")
        # A packet that cannot be parsed is kept, unless it may contain an orientation.
        packet = packet if upright is None and orientation == 1 else upright
    if packet is not None:
        named = any(value.strip() == "1" for value in xmp.values_of(packet, xmp.VIDEO))
        if named and _VIDEO_NOTE not in notes:
            notes.append(_VIDEO_NOTE)
        outdated = xmp.THUMBNAILS | xmp.APPENDED
        outdated |= xmp.SIZES | xmp.RESOLUTIONS if turned else frozenset()
        packet = xmp.without(packet, outdated) or packet
    block = found.exif
    if block is not None:
        block = exif.without_old_picture(block, turned=turned)
        try:
            exif.read_directories(io.BytesIO(block), block=True)
        except ValueError:  # its fields overlapped
            block = None
            notes.append("its EXIF data are damaged and were left out")
    upright_size = size[::-1] if turned else size
    dpi = found.dpi[::-1] if turned and found.dpi else found.dpi
    changes = {"exif": block, "xmp": packet, "dpi": dpi, "size": upright_size}
    return dataclasses.replace(found, **changes), orientation, notes  # type: ignore[arg-type]


def _exif_of(
    picture: Image.Image, raw: dict[bytes, bytes]
) -> tuple[bytes | None, list[str], int | None]:
    """The EXIF block, notes, and the orientation in the block or in the AVIF file itself."""
    block = picture.info.get("exif") or raw.get(b"exif")
    orientation = None
    if picture.format == "AVIF":
        orientation, block = _avif_exif(picture, block)
    if not isinstance(block, bytes) or not block.removeprefix(_PREFIX):
        return None, [], orientation
    block = block.removeprefix(_PREFIX)
    try:
        found = exif.read_directories(io.BytesIO(block), block=True)
    except ValueError:
        return None, ["its EXIF data are damaged and were left out"], orientation
    return block, [], orientation or exif.orientation_of(found.order, found.image)


def _avif_exif(picture: Image.Image, block: Any) -> tuple[int, Any]:
    """An AVIF file's orientation, which is a separate property, and its EXIF block.

    Pillow rewrites the block to put the orientation into it; its decoder has the original block.
    """
    try:
        decoded = picture._decoder.get_info()  # type: ignore[attr-defined]
        block, orientation = decoded[4] or None, int(decoded[5])
    except (AttributeError, IndexError, TypeError, ValueError):
        orientation = picture.getexif().get(Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1, block


def _without_raw_profiles(texts: list[Chunk]) -> tuple[list[Chunk], dict[bytes, bytes]]:
    """Separates texts from the EXIF, XMP and IPTC data that ImageMagick stores as hex text."""
    kept, raw = [], {}
    for name, content in texts:
        keyword, _, rest = content.partition(b"\0")
        if name == b"iTXt" and keyword == b"XML:com.adobe.xmp":
            continue
        if not keyword.startswith(b"Raw profile type "):
            kept.append((name, content))
            continue
        kind, data = keyword.removeprefix(b"Raw profile type "), b""
        with contextlib.suppress(ValueError, zlib.error):
            text = _inflated(rest[1:]) if name == b"zTXt" else rest
            # An empty line, the kind, the length, and hex digits.
            digits = text.split(None, 2)[2:]
            data = bytes.fromhex(digits[0].decode("ascii")) if digits else b""
        if kind == b"APP1":
            kind = b"xmp" if data.startswith(_XMP_PREFIX) else b"exif"
        if data and kind in (b"exif", b"xmp"):
            raw[kind] = data.removeprefix(_XMP_PREFIX)
        else:
            kept.append((name, content))
    return kept, raw


def _inflated(content: bytes) -> bytes:
    """Decompresses EXIF or XMP data in hex; `ValueError` if they are longer than any."""
    decoder = zlib.decompressobj()
    text = decoder.decompress(content, _MOST_HEX)
    if not decoder.eof:
        raise ValueError("too long, or incomplete")
    return text


def _has_unread_colours(form: str | None, path: Path) -> bool:
    """Whether a BMP or JPEG 2000 file has a profile or calibrated colours, which Pillow skips."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if form == "BMP" and len(head) >= 122:
        size, kind = struct.unpack_from("<I", head, 14)[0], struct.unpack_from("<I", head, 70)[0]
        return size >= 108 and kind not in (_SRGB_OF_BMP, _WINDOWS_COLOURS)
    # A colr box with a profile, restricted or not.
    return form == "JPEG2000" and re.search(rb"colr[\x02\x03]", head) is not None


def _comments(picture: Image.Image) -> tuple[bytes, ...]:
    segments = getattr(picture, "applist", None)
    if segments is not None:
        return tuple(content for name, content in segments if name == "COM")
    comment = picture.info.get("comment")
    return (comment,) if isinstance(comment, bytes) else ()


def _own_dpi(picture: Image.Image) -> tuple[float, float] | None:
    """The file's own resolution, unless Pillow derived it from EXIF."""
    if picture.format in ("JPEG", "MPO") and picture.info.get("jfif_unit") not in (1, 2):
        return None
    return _dpi(picture.info.get("dpi"))


def _exif_dpi(block: bytes | None) -> tuple[float, float] | None:
    if block is None:
        return None
    found = exif.read_directories(io.BytesIO(block))
    return tiff_dpi(found.order, {field.tag: field for field in found.image})


def tiff_dpi(order: str, by_tag: dict[int, exif.Field]) -> tuple[float, float] | None:
    """(horizontal, vertical) pixels per inch from the fields of a directory; None if missing."""
    unit = exif.number(order, by_tag[296]) if 296 in by_tag else 2
    inches = {2: 1.0, 3: 2.54}.get(unit or 0)
    values = [by_tag[tag].value[:8] for tag in (282, 283) if tag in by_tag]
    if inches is None or [len(value) for value in values] != [8, 8]:
        return None
    parts = [struct.unpack(order + "II", value) for value in values]
    if not all(below for _, below in parts):
        return None
    return _dpi(tuple(inches * above / below for above, below in parts))


def _dpi(found: Any) -> tuple[float, float] | None:
    if not (isinstance(found, tuple) and len(found) == 2):
        return None
    try:
        dpi = (float(found[0]), float(found[1]))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return dpi if all(0 < one < 1e5 for one in dpi) else None
