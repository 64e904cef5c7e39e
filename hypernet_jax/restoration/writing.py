"""Photographs to files: the format by name, 16 bits where it has them, metadata kept."""

import dataclasses
import io
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hypernet_jax.errors import UserError
from hypernet_jax.restoration.deep_writing import deep_png, tiff_file
from hypernet_jax.restoration.reading import Photograph

__all__ = ["FORMATS", "Encoding", "format_of", "is_writable", "suffix_of"]

_SUFFIXES = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".avif": "AVIF",
}
# As people write them after --format, and the ending of the files.
FORMATS = {
    "png": ".png",
    "jpeg": ".jpg",
    "webp": ".webp",
    "tiff": ".tif",
    "bmp": ".bmp",
    "avif": ".avif",
}
_DEEP = ("PNG", "TIFF")
_OPAQUE = ("JPEG", "BMP")
# Pixels that a side may have: libjpeg's limit and that of WebP's 14 bits.
_LONGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}
# WebP is lossless unless a quality is asked for.
_QUALITY = {"JPEG": 95, "WEBP": None, "AVIF": 90}


def format_of(path: Path) -> str:
    """Pillow's name of the format that a file name asks for."""
    if path.suffix.lower() not in _SUFFIXES:
        raise UserError(
            f"The output {path} has no known ending; choose one of {', '.join(_SUFFIXES)}."
        )
    return _SUFFIXES[path.suffix.lower()]


def is_writable(path: Path) -> bool:
    """Whether the name of a file ends as one that can be written."""
    return path.suffix.lower() in _SUFFIXES


def suffix_of(name: str, source: Path) -> str:
    """The ending for a format after --format; "same" is that of `source`, if it can be written."""
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
      quality: 1 to 100 for JPEG, WebP and AVIF; None for 95, lossless and 90.
    """

    quality: int | None = None

    def __post_init__(self):
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UserError(f"The quality {self.quality} is out of range; give 1 to 100.")

    def check(
        self, form: str, *, transparent: bool = False, size: tuple[int, int] = (1, 1)
    ) -> None:
        """Raises `UserError` for what the format cannot hold: before the work rather than after.

        A quality that means nothing, transparency, or a size (height, width) that is too large.
        """
        if self.quality is not None and form not in _QUALITY:
            raise UserError(f"{form} is always exact and takes no --quality; leave it out.")
        if transparent and form in _OPAQUE:
            raise UserError(
                f"The input is transparent, which {form} cannot keep; write PNG, WebP, TIFF or "
                "AVIF instead."
            )
        longest = _LONGEST_SIDE.get(form)
        if longest is not None and max(size) > longest:
            height, width = size
            raise UserError(
                f"The result would have {width}x{height} pixels, and {form} holds {longest} on a "
                "side; choose another format, such as .png."
            )

    def encode(self, photograph: Photograph, form: str) -> tuple[bytes, list[str]]:
        """The photograph as a file's content, and notes on what the format cannot keep.

        Raises:
          UserError: for transparency in a format without it, or a size too large for it.
        """
        height, width = photograph.pixels.shape[:2]
        self.check(form, transparent=photograph.alpha is not None, size=(height, width))
        notes: list[str] = []
        if photograph.deep and form not in _DEEP:
            notes.append(f"{form} has 8 bits per channel: the 16 were rounded")
            photograph = _rounded_to_8(photograph)
        carried = photograph.metadata
        if form == "BMP" and (carried.profile or carried.exif or carried.xmp):
            notes.append("BMP cannot carry its profile, EXIF and XMP data")
        try:
            # Pillow leaves EXIF's own directories out of compressed TIFF files.
            if form == "TIFF":
                return tiff_file(photograph), notes
            if photograph.deep:
                return deep_png(photograph), notes
            return self._encode_shallow(photograph, form), notes
        except (OSError, ValueError, OverflowError) as error:
            raise UserError(
                f"A picture of {width}x{height} pixels cannot be written as {form} "
                f"({error}); choose another format, such as .png."
            ) from None

    def _encode_shallow(self, photograph: Photograph, form: str) -> bytes:
        pixels, metadata = photograph.pixels, photograph.metadata
        if photograph.alpha is not None:
            pixels = np.concatenate([pixels, photograph.alpha], axis=-1)
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        options: dict = {}
        if form != "BMP":
            if metadata.profile:
                options["icc_profile"] = metadata.profile
            if metadata.exif is not None:
                options["exif"] = metadata.exif.tobytes()
            if metadata.xmp and form != "PNG":
                options["xmp"] = metadata.xmp
        if metadata.dpi and form in ("PNG", "JPEG", "BMP"):
            options["dpi"] = metadata.dpi
        quality = self.quality or _QUALITY.get(form)
        if form == "PNG" and metadata.xmp:
            options["pnginfo"] = PngInfo()
            text = metadata.xmp.decode("utf-8", "replace")
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", text)
        if form == "WEBP" and quality is None:
            options["lossless"] = True
        elif quality is not None:
            options["quality"] = quality
        if form in ("JPEG", "AVIF") and pixels.shape[-1] > 2:
            options["subsampling"] = "4:4:4"
        stream = io.BytesIO()
        picture.save(stream, form, **options)
        return stream.getvalue()


def _rounded_to_8(photograph: Photograph) -> Photograph:
    def rounded(samples: np.ndarray) -> np.ndarray:
        # 257 times 255 is 65535.
        return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)

    alpha = None if photograph.alpha is None else rounded(photograph.alpha)
    return dataclasses.replace(photograph, pixels=rounded(photograph.pixels), alpha=alpha)
