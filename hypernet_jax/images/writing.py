"""Writes photographs to files: the format by name, up to its bit depth, with metadata."""

import dataclasses
import io
import reprlib
import struct
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from hypernet_jax.errors import UserError, is_boolean
from hypernet_jax.images import exif
from hypernet_jax.images.colour import profile_misfit
from hypernet_jax.images.deep import at_depth
from hypernet_jax.images.metadata import Metadata
from hypernet_jax.images.optional import require_jxl_writer
from hypernet_jax.images.pfm import encode_pfm
from hypernet_jax.images.png_writing import encode_png, joined_samples
from hypernet_jax.images.reading import Photograph
from hypernet_jax.images.srgb import in_srgb
from hypernet_jax.images.tiff_writing import encode_tiff

__all__ = ["FORMATS", "Encoding", "can_be_transparent", "format_of", "is_writable", "suffix_of"]

_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".avif": "AVIF",
    ".pfm": "PFM",
    ".jxl": "JXL",
}
# Values of --format, and the file suffix of each.
FORMATS = {
    "png": ".png",
    "jpeg": ".jpg",
    "webp": ".webp",
    "tiff": ".tif",
    "bmp": ".bmp",
    "avif": ".avif",
    "pfm": ".pfm",
    "jxl": ".jxl",
}
# Largest bit depth, where 32 means floats; 8 for other formats.
_DEPTH = {"PNG": 16, "TIFF": 32, "PFM": 32}
_OPAQUE = ("JPEG", "BMP", "PFM")
# Fields of `Metadata` that some formats cannot carry, with their names in notes.
_NAMES = {
    "profile": "colour profile",
    "exif": "EXIF data",
    "xmp": "XMP data",
    "iptc": "IPTC data",
    "comments": "comments",
    "texts": "texts",
}
_CARRIED = {
    "PNG": ("profile", "exif", "xmp", "comments", "texts"),
    "JPEG": ("profile", "exif", "xmp", "iptc", "comments"),
    "WEBP": ("profile", "exif", "xmp"),
    "TIFF": ("profile", "exif", "xmp", "iptc"),
    "AVIF": ("profile", "exif", "xmp"),
    "JXL": ("exif", "xmp"),  # Pillow's plugin writes no profile
}
# Formats whose files are shown as sRGB.
_ONLY_SRGB = ("BMP", "JXL")
# Bytes in one segment of a JPEG file, minus the prefix of each kind of data; a profile is
# split over up to 255 segments.
_SEGMENT = 65_533
_LARGEST_IN_JPEG = {
    "exif": _SEGMENT - 6,
    "xmp": _SEGMENT - 29,
    "iptc": _SEGMENT - 28,
    "comments": _SEGMENT,
    "profile": 255 * (_SEGMENT - 14),
}
# Longest side in pixels: libjpeg's limit, and WebP's 14 bits.
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}
# WebP and JPEG XL are lossless unless a quality is given.
_QUALITY = {"JPEG": 95, "WEBP": None, "AVIF": 90, "JXL": None}


def format_of(path: Path) -> str:
    """Pillow's name of the format for a file name."""
    if path.suffix.lower() not in _SUFFIXES:
        kind = f"cannot be written as {path.suffix}" if path.suffix else "has no suffix"
        raise UserError(f"The output {path} {kind}; choose one of {', '.join(_SUFFIXES)}.")
    return _SUFFIXES[path.suffix.lower()]


def can_be_transparent(form: str) -> bool:
    """Whether a format holds transparency."""
    return form not in _OPAQUE


def is_writable(path: PurePath) -> bool:
    """Whether a file name has the suffix of a format that can be written."""
    return path.suffix.lower() in _SUFFIXES


def suffix_of(name: str, source: PurePath) -> str:
    """The suffix for a value of --format; "same" keeps that of `source` if it can be written."""
    if name == "same":
        return source.suffix if source.suffix.lower() in _SUFFIXES else ".png"
    if name.lower() in FORMATS:
        return FORMATS[name.lower()]
    if f".{name.lower()}" in _SUFFIXES:
        return f".{name.lower()}"
    raise UserError(f"Unknown format {name!r}; choose one of same, {', '.join(FORMATS)}.")


@dataclasses.dataclass(frozen=True)
class Encoding:
    """How files are written.

    Attributes:
      quality: 1 to 100 for JPEG, WebP, AVIF and JPEG XL; None for 95, lossless, 90 and lossless.
    """

    quality: int | None = None

    def __post_init__(self):
        if self.quality is None:
            return
        if not isinstance(self.quality, (int, np.integer)) or is_boolean(self.quality):
            raise UserError(
                f"The quality {reprlib.repr(self.quality)} is not a whole number; give 1 to 100."
            )
        if not 1 <= self.quality <= 100:
            raise UserError(f"The quality {self.quality} is out of range; give 1 to 100.")
        object.__setattr__(self, "quality", int(self.quality))  # Pillow takes no NumPy integer

    def check(
        self, form: str, *, transparent: bool = False, size: tuple[int, int] = (1, 1)
    ) -> None:
        """Raises `UserError`, before any work, for what the format cannot hold.

        That is a quality for a lossless format, transparency, a size (height, width) that is too
        large, or a missing extra.
        """
        if form == "JXL":
            require_jxl_writer()
        if self.quality is not None and form not in _QUALITY:
            raise UserError(f"{form} is always lossless and takes no quality; leave it out.")
        if transparent and form in _OPAQUE:
            raise UserError(
                f"The input is transparent, but {form} cannot store transparency; write PNG, "
                "WebP, TIFF or AVIF instead."
            )
        longest = _LONGEST_SIDE.get(form)
        if longest is not None and max(size) > longest:
            height, width = size
            raise UserError(
                f"The result would have {width}x{height} pixels, but {form} allows only {longest} "
                "on a side; choose another format, such as .png."
            )

    def encode(self, photograph: Photograph, form: str) -> tuple[bytes, list[str]]:
        """The encoded photograph, and notes on what the format cannot keep.

        Raises:
          UserError: for transparency in a format without it, or a size too large for it.
        """
        height, width = photograph.pixels.shape[:2]
        self.check(form, transparent=photograph.alpha is not None, size=(height, width))
        photograph, notes = _fitting(photograph, form)
        try:
            if form == "TIFF":
                content, more = encode_tiff(photograph)
                return content, notes + more
            if form == "PNG":
                return encode_png(photograph), notes
            if form == "PFM":
                return encode_pfm(photograph.pixels), notes
            return self._encode_by_pillow(photograph, form), notes
        except (OSError, ValueError, OverflowError, struct.error) as error:
            raise UserError(
                f"A picture of {width}x{height} pixels cannot be written as {form} "
                f"({error}); choose another format, such as .png."
            ) from None

    def _encode_by_pillow(self, photograph: Photograph, form: str) -> bytes:
        metadata = photograph.metadata
        samples = joined_samples(photograph)
        options: dict = {}
        if metadata.profile:
            options["icc_profile"] = metadata.profile
        if metadata.exif is not None:
            options["exif"] = b"Exif\0\0" + metadata.exif
        if metadata.xmp:
            options["xmp"] = metadata.xmp
        if form == "JPEG":
            # Pillow does not write several comments, or a large one.
            iptc = [_iptc_segment(metadata.iptc)] if metadata.iptc else []
            comments = [_segment(0xFE, comment) for comment in metadata.comments]
            options["extra"] = b"".join([*iptc, *comments])
        if metadata.dpi and form in ("JPEG", "BMP"):
            options["dpi"] = metadata.dpi
        quality = self.quality or _QUALITY.get(form)
        if form in ("WEBP", "JXL") and quality is None:
            options["lossless"] = True
            if form == "WEBP":
                options["exact"] = True  # the colours of invisible pixels too
        elif quality is not None:
            options["quality"] = quality
        if form in ("JPEG", "AVIF") and samples.ndim == 3:
            options["subsampling"] = "4:4:4"
        stream = io.BytesIO()
        Image.fromarray(samples).save(stream, form, **options)
        return stream.getvalue()


def _segment(marker: int, content: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def _iptc_segment(record: bytes) -> bytes:
    """A segment of a JPEG file with one of Photoshop's resources, the IPTC record."""
    padded = record + b"\0" * (len(record) % 2)
    resource = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(record)) + padded
    return _segment(0xED, b"Photoshop 3.0\0" + resource)


def _fitting(photograph: Photograph, form: str) -> tuple[Photograph, list[str]]:
    """The photograph reduced to what the format can hold, and notes on the rest."""
    notes = []
    depth = _DEPTH.get(form, 8)
    if photograph.depth > depth:
        had = "floats" if photograph.depth == 32 else "16"
        notes.append(f"{form} has {depth} bits per channel: the {had} were rounded")
        photograph = _rounded(photograph, depth)
    # WebP has no grey pictures, and AVIF none with transparency.
    as_rgb = form == "WEBP" or (form == "AVIF" and photograph.alpha is not None)
    grey = photograph.pixels.shape[-1] == 1 and not as_rgb
    metadata = photograph.metadata
    if form != "PNG" and metadata.colours:
        metadata, note = _with_profile(metadata, form, grey=grey)
        notes += note
    if form != "TIFF" and metadata.tiff_colours:
        notes.append(f"{form} cannot describe its colours like the fields of a TIFF file")
    if metadata.profile and as_rgb and profile_misfit(metadata.profile, grey=grey):
        notes.append(f"{form} has no such grey pictures, so their profile was left out")
        metadata = dataclasses.replace(metadata, profile=None)
    pixels = photograph.pixels
    if metadata.profile and form in _ONLY_SRGB:
        shown = Image.fromarray(pixels[..., 0] if grey else pixels)
        picture = in_srgb(shown, io.BytesIO(metadata.profile))
        if picture is not None:
            converted = np.asarray(picture)[..., : pixels.shape[-1]]
            metadata = dataclasses.replace(metadata, profile=None)
            if np.abs(converted.astype(int) - pixels).max() > 1:  # more than rounding
                pixels = converted
                notes.append(
                    f"{form} cannot carry its colour profile: its colours were converted to sRGB"
                )
    metadata, lost = _as_carried(metadata, form)
    notes += lost
    if form == "AVIF" and metadata.exif is not None:
        # Pillow would move the orientation and rewrite the whole block.
        metadata = dataclasses.replace(metadata, exif=exif.without_orientation(metadata.exif))
    return dataclasses.replace(photograph, pixels=pixels, metadata=metadata), notes


def _with_profile(metadata: Metadata, form: str, *, grey: bool) -> tuple[Metadata, list[str]]:
    """Replaces the colour chunks of a PNG file with an equivalent profile where possible."""
    colour, profile = metadata.colour, metadata.profile_as_shown(grey=grey)
    converted = dataclasses.replace(metadata, profile=profile, colours=())
    lost = [name for name, _ in metadata.colours]
    if profile or (colour is not None and colour.is_srgb):
        # Beyond the colour space itself: properties of the mastering screen, and brightness.
        lost = [name for name in lost if name in (b"mDCV", b"cLLI")]
    if not lost:
        return converted, []
    names = ", ".join(name.decode() for name in lost)
    return converted, [f"{form} cannot describe its colours ({names}) like the input"]


def _as_carried(metadata: Metadata, form: str) -> tuple[Metadata, list[str]]:
    """The metadata that the format can carry, and notes on the rest."""
    carried = _CARRIED.get(form, ())
    missing = [name for name in _NAMES if getattr(metadata, name) and name not in carried]
    notes = []
    if missing:
        *first, last = [_NAMES[name] for name in missing]
        listed = f"{', '.join(first)} and {last}" if first else last
        notes.append(f"{form} cannot carry its {listed}")
    if form == "JPEG":
        for name, largest in _LARGEST_IN_JPEG.items():
            value = getattr(metadata, name) or b""
            parts = value if isinstance(value, tuple) else (value,)
            if any(len(part) > largest for part in parts):
                missing.append(name)
                notes.append(f"its {_NAMES[name]} is too large for JPEG and was left out")
        if metadata.dpi and max(metadata.dpi) >= 1 << 16:
            missing.append("dpi")
            notes.append("its resolution is too high for JPEG and was left out")
    empty = {name: () if name in ("texts", "comments") else None for name in missing}
    return dataclasses.replace(metadata, **empty), notes  # type: ignore[arg-type]


def _rounded(photograph: Photograph, depth: int) -> Photograph:
    """Rounds samples to 8 or 16 bits."""
    alpha = None if photograph.alpha is None else at_depth(photograph.alpha, depth)
    return dataclasses.replace(photograph, pixels=at_depth(photograph.pixels, depth), alpha=alpha)
