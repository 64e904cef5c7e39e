"""Reads photographs from files: any mode and bit depth, upright, with metadata."""

import dataclasses
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageFile, PngImagePlugin
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COLORMAP,
    COMPRESSION,
    IMAGELENGTH,
    IMAGEWIDTH,
    PHOTOMETRIC_INTERPRETATION,
    SAMPLEFORMAT,
    SAMPLESPERPIXEL,
    TILELENGTH,
    TILEWIDTH,
    YCBCRSUBSAMPLING,
    TiffImageFile,
)

from hypernet_jax.errors import UserError
from hypernet_jax.files import local_path
from hypernet_jax.images.chroma import interpolated_chroma
from hypernet_jax.images.colour import profile_misfit
from hypernet_jax.images.deep import at_depth, avif_bits, jpeg2k_bits, read_deep
from hypernet_jax.images.exif import without_orientation
from hypernet_jax.images.limits import check_limit, check_still, check_tile, check_unit_range
from hypernet_jax.images.metadata import (
    Metadata,
    read_metadata,
    read_raw_metadata,
    read_tiff_metadata,
)
from hypernet_jax.images.opening import failures_as_sentences, open_header
from hypernet_jax.images.optional import (
    is_raw,
    jxl_samples,
    jxl_xmp,
    read_heif,
    read_raw,
    register_codec,
)
from hypernet_jax.images.orientation import upright
from hypernet_jax.images.pfm import is_pfm, read_pfm
from hypernet_jax.images.png_chunks import MOST_TEXT
from hypernet_jax.images.srgb import in_srgb, srgb_profile
from hypernet_jax.images.tiff_reading import is_tiff, read_tiff

__all__ = ["DEFAULT_LIMIT", "Photograph", "read_image", "read_photograph"]

# Raises Pillow's limits on the size of texts and profiles, which legitimate files exceed.
PngImagePlugin.MAX_TEXT_CHUNK = MOST_TEXT
PngImagePlugin.MAX_TEXT_MEMORY = 256 << 20

# Megapixels: more than any camera has, but not enough to exhaust memory.
DEFAULT_LIMIT = 400.0


@dataclasses.dataclass(frozen=True)
class Photograph:
    """A still image.

    Attributes:
      pixels: (H, W, C), C = 3 or 1, uint8, uint16, or float16 or float32 in [0, 1]; upright.
      alpha: transparency, (H, W, 1) of the same dtype, or None.
      metadata: the file's metadata.
      notes: short notes on what could not be kept unchanged.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    metadata: Metadata = dataclasses.field(default_factory=Metadata)
    notes: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """Bits per sample: 8 or 16, or 32 for floats."""
        if np.issubdtype(self.pixels.dtype, np.floating):
            return 32
        return 8 * self.pixels.dtype.itemsize


def _open(path: Path, limit: float) -> ImageFile.ImageFile:
    picture = open_header(path)
    check_limit(path, (picture.width, picture.height), limit)
    return picture


def _to_srgb(picture: Image.Image, notes: list[str]) -> tuple[Image.Image, bytes | None]:
    """Converts CMYK and Lab to RGB, through the embedded profile if it can be used."""
    embedded = picture.info.get("icc_profile")
    kind = {"CMYK": "CMYK", "LAB": "Lab"}[picture.mode]
    sources: list[Any] = [io.BytesIO(embedded)] if embedded else []
    if picture.mode == "LAB":
        sources.append(ImageCms.createProfile("LAB"))
    for source in sources:
        converted = in_srgb(picture, source)
        if converted is not None:
            by_profile = "" if embedded is None or source is sources[0] else " without its profile"
            notes.append(f"{kind} was converted to sRGB{by_profile}")
            return converted, srgb_profile()
    notes.append(f"{kind} without a usable profile was converted to RGB by the plain formula")
    return picture.convert("RGB"), None


def _is_grey(picture: Image.Image) -> bool:
    if picture.mode in ("P", "PA"):
        # An RGB profile changes the look of greys, and a grey picture cannot have one.
        profile = picture.info.get("icc_profile")
        if profile and profile_misfit(profile, grey=True) is not None:
            return False
        palette = np.reshape(picture.getpalette("RGB") or [], (-1, 3))
        used = np.unique(np.asarray(picture.getchannel(0)))
        # An index beyond the palette means black.
        colours = palette[used[used < len(palette)]]
        return bool((colours == colours[:, :1]).all())
    return picture.mode in ("1", "L", "LA", "La")


def _shallow(picture: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels and transparency of an 8-bit picture."""
    grey = _is_grey(picture)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        pixels = np.asarray(picture)
        return pixels[..., :1] if grey else pixels[..., :3], pixels[..., 3:]
    pixels = np.asarray(picture.convert("L" if grey else "RGB"))
    return (pixels[..., None] if grey else pixels), None


# Raw modes that Pillow reduces from 16 bits; BGR;16 is not one, it has 5, 6 and 5 bits.
_DEEP_RAW_MODE = re.compile(r"\b(I|L|LA|RGB|RGBA|CMYK);16")


def _byte_of(path: Path, at: int) -> int:
    """The byte at an offset of a file."""
    with path.open("rb") as file:
        file.seek(at)
        return (file.read(1) or b"\0")[0]


def _amended(picture: Image.Image, path: Path, bits: int) -> Image.Image:
    """Corrects 8-bit pictures that Pillow interprets wrongly."""
    key = picture.info.get("transparency")
    if picture.format == "PNG" and picture.mode == "L" and isinstance(key, int):
        # The transparent grey has the file's bit depth, while the pixels have 8 bits.
        scale = {2: 85, 4: 17}.get(_byte_of(path, 24), 1)
        picture.info["transparency"] = key * scale
    # A TGA file's header holds the number of transparency bits per pixel.
    if picture.format == "TGA" and "A" in picture.mode and not _byte_of(path, 17) & 0x0F:
        return picture.convert(picture.mode[:-1])
    if picture.format == "JPEG2000" and bits < 8 and picture.mode in ("L", "RGB"):
        # Shifted but not scaled to 8 bits: with 4 bits white is 240.
        white = (2**bits - 1) << (8 - bits)
        return picture.point(lambda value: min(255, round(value * 255 / white)))
    if isinstance(picture, TiffImageFile) and picture.mode == "P":
        colours = picture.tag_v2.get(COLORMAP, ())
        if colours and max(colours) < 256:  # 8 bits where there should be 16
            picture.putpalette(bytes(np.reshape(colours, (3, -1)).T.ravel().astype(np.uint8)))
    return picture


def _check_channels(picture: TiffImageFile, path: Path, notes: list[str]) -> None:
    """Notes channels of a TIFF file that Pillow drops; `UserError` for unsupported layouts."""
    tags = picture.tag_v2
    ycc = tags.get(COMPRESSION, 1) == 1 and tags.get(PHOTOMETRIC_INTERPRETATION) == 6
    if ycc and tuple(tags.get(YCBCRSUBSAMPLING, (2, 2))) != (1, 1):
        raise UserError(
            f"The image {path} has uncompressed YCbCr with subsampled chrominance, which is not "
            "supported; convert it to an RGB TIFF or PNG."
        )
    bands = len(picture.getbands()) - (picture.mode == "RGBX")
    dropped = tags.get(SAMPLESPERPIXEL, 1) - bands
    if dropped > 0:
        notes.append(f"{dropped} channels of unknown meaning were left out")


def _bits(picture: ImageFile.ImageFile, path: Path) -> int:
    """Bits per channel in the file, before the picture's pixels are read."""
    if picture.format == "AVIF":
        return avif_bits(path)
    if picture.format == "JPEG2000":
        return jpeg2k_bits(path)
    if picture.format == "HEIF":
        return int(picture.info.get("bit_depth", 8))
    if picture.format == "PPM":
        # The decoder's arguments hold the maximum value, or a raw mode.
        arguments = picture.tile[0].args
        greatest = arguments[-1] if isinstance(arguments, tuple) else 255
        return 16 if picture.mode == "I" or (isinstance(greatest, int) and greatest > 255) else 8
    if picture.format == "SGI":
        return 8 * _byte_of(path, 3)
    if picture.mode in ("I", "F"):
        return 32
    deep = any(_DEEP_RAW_MODE.search(str(tile.args)) for tile in picture.tile)
    return 16 if deep or picture.mode.startswith("I;") else 8


def _check_frames(picture: Image.Image, path: Path, notes: list[str]) -> None:
    frames = getattr(picture, "n_frames", 1)
    if frames <= 1:
        return
    if picture.format in ("MPO", "HEIF"):
        # Cameras and phones add a preview, or the second view of a stereo pair.
        notes.append(f"the first of the {frames} pictures in it was taken")
        return
    check_still(path, frames)


def _finished(
    pixels: np.ndarray,
    alpha: np.ndarray | None,
    found: tuple[Metadata, int, list[str]],
    notes: list[str],
) -> Photograph:
    """Turns the photograph upright, and drops a profile that does not fit."""
    metadata, orientation, more = found
    notes = notes + more
    pixels = upright(pixels, orientation)
    alpha = None if alpha is None else upright(alpha, orientation)
    grey = pixels.shape[-1] == 1
    kind = profile_misfit(metadata.profile, grey=grey) if metadata.profile else None
    if kind is not None:
        notes.append(
            f"its profile is for {kind} pictures, not for {'grey' if grey else 'RGB'} ones, and "
            "was left out"
        )
        metadata = dataclasses.replace(metadata, profile=None)
    if (colour := metadata.colour) is not None and (note := colour.note()) is not None:
        notes.append(note)
    return Photograph(pixels, alpha, metadata, tuple(notes))


def _read_by_tifffile(path: Path, limit: float) -> Photograph:
    pixels, alpha, notes = read_tiff(path, limit)
    height, width = pixels.shape[:2]
    return _finished(pixels, alpha, read_tiff_metadata(path, (width, height)), notes)


def _read_by_pillow(picture: ImageFile.ImageFile, path: Path) -> Photograph:
    notes: list[str] = []
    _check_frames(picture, path, notes)
    bits, form = _bits(picture, path), picture.format
    if isinstance(picture, TiffImageFile):
        # Of all formats Pillow turns only TIFF files, wrongly if they are uncompressed, and not
        # at all for some orientations. This makes it read them as stored.
        picture.getexif = Image.Exif  # type: ignore[method-assign]
        picture._size = (picture.tag_v2[IMAGEWIDTH], picture.tag_v2[IMAGELENGTH])
        _check_channels(picture, path, notes)
        tile = (picture.tag_v2.get(TILEWIDTH, 0), picture.tag_v2.get(TILELENGTH, 0))
        check_tile(path, tile, picture.size)
    if form == "JXL":
        _complete_jxl(picture.info, path)
    picture.load()
    stored = picture.size
    tiff = isinstance(picture, TiffImageFile)
    found = read_tiff_metadata(path, stored) if tiff else read_metadata(picture, path)
    if form == "JXL":
        samples = jxl_samples(path)
        # Already turned by its own header, so the orientation of EXIF or XMP is ignored.
        metadata = dataclasses.replace(found[0], size=(samples.shape[1], samples.shape[0]))
        return _finished(*_with_transparency(path, samples), (metadata, 1, found[2]), notes)
    if form == "HEIF":
        # The decoder only repeats subsampled chrominance.
        pixels, alpha = read_heif(path, bits) if bits > 8 else _shallow(picture)
        if picture.info.get("chroma") == 420:
            pixels = interpolated_chroma(pixels)
        return _finished(pixels, alpha, found, notes)
    if bits > 8:
        deep = read_deep(path, form, picture)
        if deep is None:
            raise UserError(
                f"The image {path} has {bits} bits per channel in a form that cannot be "
                "restored; convert it to a 16-bit PNG or TIFF, grey or RGB."
            )
        return _finished(*deep, found, notes)
    shown = _amended(picture, path, bits)
    if picture.mode in ("CMYK", "LAB"):
        shown, profile = _to_srgb(picture, notes)
        metadata, orientation, more = found
        found = (dataclasses.replace(metadata, profile=profile, colours=()), orientation, more)
    return _finished(*_shallow(shown), found, notes)


def _complete_jxl(info: dict, path: Path) -> None:
    """Adds the XMP packet that Pillow's plugin leaves out, and ignores the EXIF orientation."""
    if info.get("exif"):
        block = info["exif"].removeprefix(b"Exif\0\0")
        info["exif"] = b"Exif\0\0" + without_orientation(block)
    packet = info.get("xmp") or jxl_xmp(path)
    if packet:
        info["xmp"] = packet


def _with_transparency(path: Path, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Pixels, and their transparency, the last channel if there are 2 or 4."""
    if np.issubdtype(samples.dtype, np.floating):
        check_unit_range(samples, path)
    if samples.shape[-1] in (2, 4):
        return samples[..., :-1], samples[..., -1:]
    return samples, None


def _is_for_tifffile(picture: ImageFile.ImageFile) -> bool:
    """Whether a TIFF file has samples that Pillow would reduce or misinterpret."""
    if not isinstance(picture, TiffImageFile):
        return False
    bits = picture.tag_v2.get(BITSPERSAMPLE, (1,))
    kinds = picture.tag_v2.get(SAMPLEFORMAT, (1,))
    unsigned = all(kind in (1, 4) for kind in np.atleast_1d(kinds))
    return int(np.max(bits)) > 8 or not unsigned


def read_photograph(path: str | Path, *, limit: float = DEFAULT_LIMIT) -> Photograph:
    """Reads an image file and turns it upright by its EXIF orientation, or else by its XMP.

    Grey stays grey, even from a palette; other palettes become RGB; CMYK and Lab become
    sRGB, through the embedded profile if there is one. More than 8 bits become 16; floats
    from 0 to 1 stay floats.

    Args:
      path: PNG, JPEG, WebP, TIFF, BMP, AVIF, GIF, PPM, PFM or any other format of Pillow; with
        extras also HEIF, JPEG XL and raw files of cameras, which are developed to sRGB.
      limit: megapixels.

    Raises:
      UserError: if the file is missing, a pipe, not an image, damaged, too large, animated or of
        an unsupported kind; the sentence names the file.
    """
    path = local_path(path)
    if path.is_fifo():  # photographs are read more than once
        raise UserError(f"{path} is a pipe; save its image to a file first, and give that.")
    with failures_as_sentences(path):
        if is_pfm(path):
            pixels = read_pfm(path, limit)
            height, width = pixels.shape[:2]
            return Photograph(pixels, metadata=Metadata(size=(width, height)))
        if is_raw(path):
            pixels = read_raw(path, limit)
            metadata, notes = read_raw_metadata(path, (pixels.shape[1], pixels.shape[0]))
            return Photograph(pixels, metadata=metadata, notes=tuple(notes))
        register_codec(path)
        try:
            picture = _open(path, limit)
        except Image.UnidentifiedImageError:
            if not is_tiff(path):
                raise
            return _read_by_tifffile(path, limit)
        with picture:
            if _is_for_tifffile(picture):
                return _read_by_tifffile(path, limit)
            try:
                return _read_by_pillow(picture, path)
            except (OSError, ValueError) as error:
                # tifffile has decoders that Pillow lacks.
                if isinstance(error, UserError) or not isinstance(picture, TiffImageFile):
                    raise
                return _read_by_tifffile(path, limit)


def read_image(path: str | Path) -> np.ndarray:
    """Reads the pixels of an image file as 8 bits, for training and evaluation.

    Args:
      path: as for `read_photograph`.

    Returns:
      uint8 (H, W, 3), or (H, W, 1) for grey. Transparency is dropped.

    Raises:
      UserError: as `read_photograph`.
    """
    pixels = read_photograph(path).pixels
    return pixels if pixels.dtype == np.uint8 else at_depth(pixels, 8)
