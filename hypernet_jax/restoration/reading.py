"""Photographs from files: any mode, any depth, upright, with what they carry."""

import dataclasses
import io
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image, ImageCms, ImageFile, ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile

from hypernet_jax.data.images import open_header, told_of
from hypernet_jax.errors import UserError
from hypernet_jax.restoration.deep import (
    avif_bits,
    check_limit,
    check_still,
    is_tiff,
    jpeg2k_bits,
    read_deep,
)
from hypernet_jax.restoration.metadata import Metadata, read_metadata, read_tiff_metadata

__all__ = ["DEFAULT_LIMIT", "Photograph", "read_photograph"]

# Megapixels. More than any camera's, less than would fill a machine's memory.
DEFAULT_LIMIT = 400.0


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A still image.

    Attributes:
      pixels: (H, W, C), C = 3 or 1, uint8 or uint16, upright.
      alpha: transparency, (H, W, 1) of the same type, or None.
      metadata: what else the file carried.
      notes: half-sentences on what could not be kept as it was.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    metadata: Metadata = dataclasses.field(default_factory=Metadata)
    notes: tuple[str, ...] = ()

    @property
    def deep(self) -> bool:
        """Whether it has 16 bits per channel."""
        return self.pixels.dtype == np.uint16


def _open(path: Path, limit: float) -> ImageFile.ImageFile:
    picture = open_header(path)
    check_limit(path, (picture.width, picture.height), limit)
    return picture


def _to_srgb(picture: Image.Image, notes: list[str]) -> tuple[Image.Image, bytes | None]:
    """CMYK and Lab as RGB: through the profile if there is one."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    embedded = picture.info.get("icc_profile")
    kind = {"CMYK": "CMYK", "LAB": "Lab"}[picture.mode]
    try:
        source = ImageCms.ImageCmsProfile(
            io.BytesIO(embedded) if embedded else ImageCms.createProfile("LAB")
        )
        if embedded or picture.mode == "LAB":
            flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
            converted = ImageCms.profileToProfile(
                picture,
                source,
                srgb,
                renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=flags,
            )
            notes.append(f"{kind} was converted to sRGB")
            return cast(Image.Image, converted), srgb.tobytes()
    except ImageCms.PyCMSError:
        if picture.mode == "LAB":
            raise
    notes.append(f"{kind} without a usable profile was converted to RGB by the plain formula")
    return picture.convert("RGB"), None


def _is_grey(picture: Image.Image) -> bool:
    if picture.mode in ("P", "PA"):
        palette = np.reshape(picture.getpalette("RGB") or [], (-1, 3))
        used = np.unique(np.asarray(picture.getchannel(0)))
        # An index beyond the palette is black.
        colours = palette[used[used < len(palette)]]
        return bool((colours == colours[:, :1]).all())
    return picture.mode in ("1", "L", "LA", "La")


def _shallow(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels and transparency of a picture of 8 bits."""
    grey = _is_grey(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        pixels = np.asarray(picture)
        return pixels[..., :1] if grey else pixels[..., :3], pixels[..., 3:]
    pixels = np.asarray(picture.convert("L" if grey else "RGB"))
    return (pixels[..., None] if grey else pixels), None


def _bits(picture: ImageFile.ImageFile, path: Path) -> int:
    """Bits per channel in the file; the picture's pixels have not been read yet."""
    if picture.format == "AVIF":
        return avif_bits(path)
    if picture.format == "JPEG2000":
        return jpeg2k_bits(path)
    if isinstance(picture, TiffImageFile):
        # Pillow decodes some kinds of 16 bits as 8, planes that lie one after the other for one.
        return max(picture.tag_v2.get(BITSPERSAMPLE, (1,)))
    if picture.format == "PPM":
        # A decoder is told the greatest value, or a raw mode.
        told = picture.tile[0].args
        greatest = told[-1] if isinstance(told, tuple) else 255
        return 16 if picture.mode == "I" or (isinstance(greatest, int) and greatest > 255) else 8
    if picture.mode in ("I", "F"):
        return 32
    if picture.mode.startswith("I;") or any(";16" in str(tile.args) for tile in picture.tile):
        return 16
    return 8


def _check_frames(picture: Image.Image, path: Path, notes: list[str]) -> None:
    frames = getattr(picture, "n_frames", 1)
    if frames <= 1:
        return
    if picture.format == "MPO":
        # What cameras and telephones add to a JPEG: a preview, or the other eye's view.
        notes.append(f"the first of the {frames} pictures in it was taken")
        return
    check_still(path, frames)


def read_photograph(path: str | Path, *, limit: float = DEFAULT_LIMIT) -> Photograph:
    """Reads an image file, turned upright as its EXIF orientation says.

    Grey stays grey, also from a palette; a palette becomes RGB; CMYK and Lab become
    sRGB, through the embedded profile if there is one. More than 8 bits become 16.

    Args:
      path: PNG, JPEG, WebP, TIFF, BMP, AVIF, GIF, PPM or what else Pillow reads.
      limit: megapixels.

    Raises:
      UserError: one sentence that names the file: it is missing, no image, damaged, too
        large, animated or of a kind that cannot be restored.
    """
    path = Path(path)
    notes: list[str] = []
    with told_of(path):
        try:
            picture = _open(path, limit)
        except Image.UnidentifiedImageError:
            deep = read_deep(path, "TIFF", limit) if is_tiff(path) else None
            if deep is None:
                raise
            metadata, notes = read_tiff_metadata(path)
            return Photograph(*deep, metadata, tuple(notes))
        with picture:
            _check_frames(picture, path, notes)
            bits, form = _bits(picture, path), picture.format
            picture.load()
            metadata, more = read_metadata(picture)
            notes += more
            if bits > 8:
                deep = read_deep(path, form, limit, picture=picture)
                if deep is None:
                    raise UserError(
                        f"The image {path} has {bits} bits per channel in a form that cannot be "
                        "restored; convert it to a 16-bit PNG or TIFF, grey or RGB."
                    )
                pixels, alpha = deep
            else:
                ImageOps.exif_transpose(picture, in_place=True)
                upright: Image.Image = picture
                if picture.mode in ("CMYK", "LAB"):
                    upright, profile = _to_srgb(picture, notes)
                    metadata = dataclasses.replace(metadata, profile=profile)
                pixels, alpha = _shallow(upright)
    return Photograph(pixels, alpha, metadata, tuple(notes))
