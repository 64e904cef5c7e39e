"""What a photograph carries beside its pixels: colour profile, EXIF, XMP, resolution."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from PIL.ExifTags import IFD, Base

__all__ = ["KEPT_TAGS", "Metadata", "read_metadata", "read_tiff_metadata"]

# What describes the photograph. Other tags of a TIFF directory describe how the
# pixels of that one file are laid out, and a thumbnail would show the old picture.
KEPT_TAGS = (
    Base.ImageDescription, Base.Make, Base.Model, Base.Software, Base.DateTime, Base.Artist,
    Base.HostComputer, Base.Copyright, Base.Rating, Base.RatingPercent, Base.XPTitle,
    Base.XPComment, Base.XPAuthor, Base.XPKeywords, Base.XPSubject,
)  # fmt: skip
_KEPT_DIRECTORIES = (IFD.Exif, IFD.GPSInfo)
# The place of a directory in the old file, meaningless in the new one.
_INTEROP_POINTER = 0xA005
_XMP_ORIENTATION = re.compile(rb'\s*tiff:Orientation="\d"|<tiff:Orientation>\d</tiff:Orientation>')


@dataclasses.dataclass(frozen=True)
class Metadata:
    """Kept from the input in the output.

    Attributes:
      profile: the ICC profile.
      exif: EXIF tags, orientation 1: it has been applied.
      xmp: the XMP packet, without its orientation.
      dpi: (horizontal, vertical) pixels per inch.
    """

    profile: bytes | None = None
    exif: Image.Exif | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None

    def of_size(self, width: int, height: int) -> "Metadata":
        """The same for a result of another size, where EXIF tells the size."""
        if self.exif is not None:
            details = self.exif.get_ifd(IFD.Exif)
            for tag, length in ((Base.ExifImageWidth, width), (Base.ExifImageHeight, height)):
                if tag in details:
                    details[tag] = length
        return self


def _kept(found: Image.Exif) -> Image.Exif | None:
    kept = Image.Exif()
    for tag in KEPT_TAGS:
        if tag in found:
            kept[tag] = found[tag]
    for directory in _KEPT_DIRECTORIES:
        entries = dict(found.get_ifd(directory))
        entries.pop(_INTEROP_POINTER, None)
        if entries:
            kept.get_ifd(directory).update(entries)
    if not len(kept) and not kept._ifds:
        return None
    kept[Base.Orientation] = 1
    # Values of a damaged directory are found out only when they are written.
    kept.tobytes()
    return kept


def read_metadata(picture: Image.Image) -> tuple[Metadata, list[str]]:
    """Reads what a decoded picture carries, and notes on what is left out.

    Args:
      picture: as opened; its pixels have been read.
    """
    xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp")
    exif, notes = _read_exif(picture.getexif)
    profile = picture.info.get("icc_profile")
    return Metadata(profile, exif, _xmp(xmp), _dpi(picture.info.get("dpi"))), notes


def read_tiff_metadata(path: Path) -> tuple[Metadata, list[str]]:
    """The same of a TIFF file whose pixels are of a kind that Pillow does not know."""
    directory, dpi = Image.Exif(), None
    with path.open("rb") as file:

        def read() -> Image.Exif:
            # A TIFF file is, from its first byte on, what EXIF data are in other files.
            directory.load_from_fp(file)
            return directory

        exif, notes = _read_exif(read)
        if notes:
            return Metadata(), notes
        inches = {2: 1.0, 3: 2.54}.get(directory.get(Base.ResolutionUnit, 2))
        if inches and Base.XResolution in directory and Base.YResolution in directory:
            dpi = tuple(inches * directory[tag] for tag in (Base.XResolution, Base.YResolution))
        profile, xmp = directory.get(Base.InterColorProfile), directory.get(Base.XMLPacket)
    return Metadata(profile, exif, _xmp(xmp), _dpi(dpi)), notes


def _read_exif(read: Callable[[], Image.Exif]) -> tuple[Image.Exif | None, list[str]]:
    try:
        return _kept(read()), []
    # Pillow's parser raises whatever a damaged directory makes it stumble over.
    except Exception:
        return None, ["its EXIF data are damaged and were left out"]


def _xmp(packet) -> bytes | None:
    if isinstance(packet, str):
        packet = packet.encode()
    return _XMP_ORIENTATION.sub(b"", packet) if isinstance(packet, bytes) else None


def _dpi(found) -> tuple[float, float] | None:
    if not (isinstance(found, tuple) and len(found) == 2):
        return None
    dpi = (float(found[0]), float(found[1]))
    return dpi if all(0 < one < 1e5 for one in dpi) else None
