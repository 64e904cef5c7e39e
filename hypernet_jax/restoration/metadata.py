"""What a photograph carries beside its pixels: colour profile, EXIF, XMP, resolution."""

import dataclasses
import re

from PIL import Image
from PIL.ExifTags import IFD, Base

__all__ = ["Metadata", "read_metadata"]

# What describes the photograph. Other tags of a TIFF directory describe how the
# pixels of that one file are laid out, and a thumbnail would show the old picture.
_KEPT_TAGS = (
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


def _exif(picture: Image.Image) -> Image.Exif | None:
    found = picture.getexif()
    kept = Image.Exif()
    for tag in _KEPT_TAGS:
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
    notes = []
    try:
        exif = _exif(picture)
    # Pillow's parser raises whatever a damaged directory makes it stumble over.
    except Exception:
        exif = None
        notes.append("its EXIF data are damaged and were left out")
    xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if xmp is not None:
        xmp = _XMP_ORIENTATION.sub(b"", xmp) if isinstance(xmp, bytes) else None
    dpi = picture.info.get("dpi")
    if not (isinstance(dpi, tuple) and len(dpi) == 2 and all(0 < float(d) < 1e5 for d in dpi)):
        dpi = None
    else:
        dpi = (float(dpi[0]), float(dpi[1]))
    return Metadata(picture.info.get("icc_profile"), exif, xmp, dpi), notes
