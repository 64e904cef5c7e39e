"""Images of more than 8 bits per channel, which Pillow would cut down without a word."""

import logging
import re
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from hypernet_jax.errors import UserError

__all__ = ["avif_bits", "check_limit", "check_still", "is_tiff", "jpeg2k_bits", "read_deep"]

_WHITE = 65535
# How an EXIF orientation is undone: swap rows and columns, then flip rows, flip columns.
_UPRIGHT = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def check_limit(path: Path, size: tuple[int, int], limit: float) -> None:
    """Raises `UserError` for an image, (width, height), of more megapixels than allowed."""
    width, height = size
    # Written so that it is true for a limit that is not a number.
    if not width * height <= 1e6 * limit:
        raise UserError(
            f"The image {path} has {width}x{height} pixels, more than {limit:g} megapixels; "
            "allow more with --limit if it is meant to be that large."
        )


def check_still(path: Path, frames: int) -> None:
    """Raises `UserError` for more than one frame or page."""
    if frames > 1:
        raise UserError(
            f"The image {path} has {frames} frames or pages; only still images can be "
            "restored: save one of them as a file."
        )


def is_tiff(path: Path) -> bool:
    """Whether a file begins as a TIFF file does: Pillow does not know all of them."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def avif_bits(path: Path) -> int:
    """8, 10 or 12 bits per channel: the flags of the file's AV1 configuration."""
    with path.open("rb") as file:
        found = re.search(rb"av1C\x81.(.)", file.read(1 << 16), re.DOTALL)
    flags = found[1][0] if found else 0
    if not flags & 0x40:
        return 8
    return 12 if flags & 0x20 else 10


def jpeg2k_bits(path: Path) -> int:
    """Bits per channel of a JPEG 2000 file: what the first header of its code says."""
    with path.open("rb") as file:
        content = file.read(1 << 16)
    # Markers SOC and SIZ; 36 bytes of sizes; the number of channels; the depth of each, less one.
    start = content.find(b"\xff\x4f\xff\x51")
    depths = content[start + 42 :: 3] if start >= 0 else b""
    count = int.from_bytes(content[start + 40 : start + 42], "big")
    return max(((depth & 0x7F) + 1 for depth in depths[:count]), default=8)


def _scaled(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples of so many bits as 16-bit ones."""
    samples = np.asarray(samples, np.uint16)
    if bits >= 16:
        return samples
    factor = np.float32(_WHITE / (2**bits - 1))
    return np.round(samples * factor).astype(np.uint16)


def _read_tiff(path: Path, limit: float) -> tuple[np.ndarray, bool] | None:
    """Samples (H, W, C) and whether the last channel is transparency; None if not restorable."""
    # Imported when needed: a run of JPEG files has no use for it.
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        check_limit(path, (page.imagewidth, page.imagelength), limit)
        check_still(path, len(file.pages))
        kinds = (tifffile.PHOTOMETRIC.MINISWHITE, tifffile.PHOTOMETRIC.MINISBLACK)
        grey = page.photometric in kinds
        colours = 1 if grey else 3
        alphas = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
        # Another channel may be infrared light, or a selection.
        known_alpha = page.samplesperpixel == colours + 1 and any(
            kind in alphas for kind in page.extrasamples
        )
        fitting = (
            page.dtype == np.uint16
            and (grey or page.photometric == tifffile.PHOTOMETRIC.RGB)
            and page.axes in ("YX", "YXS", "SYX")
            and (page.samplesperpixel == colours or known_alpha)
        )
        if not fitting:
            return None
        samples = page.asarray()
        if page.axes == "SYX":
            samples = np.moveaxis(samples, 0, -1)
        samples = _scaled(samples.reshape(page.imagelength, page.imagewidth, -1), _bits_of(page))
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            samples[..., :1] = _WHITE - samples[..., :1]
        transparent = page.samplesperpixel > colours
        if transparent and tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples:
            alpha = np.maximum(samples[..., -1:], 1) / np.float32(_WHITE)
            samples[..., :-1] = np.minimum(np.round(samples[..., :-1] / alpha), _WHITE)
        return samples, transparent


def _tiff_orientation(path: Path) -> int:
    import tifffile

    with tifffile.TiffFile(path) as file:
        return int(file.pages.first.tags.valueof(int(Base.Orientation), default=1))


def _bits_of(page) -> int:
    bits = page.bitspersample
    return int(bits[0] if isinstance(bits, tuple) else bits)


# Formats that imagecodecs decodes: its function, and bits per channel of a file.
_DECODED = {
    "PNG": ("png_decode", lambda path: 16),
    "AVIF": ("avif_decode", avif_bits),
    "JPEG2000": ("jpeg2k_decode", jpeg2k_bits),
}


def _read(
    path: Path, form: str | None, limit: float, picture: Image.Image | None
) -> tuple[np.ndarray, bool] | None:
    if form == "TIFF":
        return _read_tiff(path, limit)
    if form in _DECODED:
        import imagecodecs

        decoder, bits_of = _DECODED[form]
        samples = getattr(imagecodecs, decoder)(path.read_bytes())
        if samples.ndim == 2:
            samples = samples[..., None]
        if samples.dtype != np.uint16 or samples.shape[-1] > 4:
            return None
        return _scaled(samples, bits_of(path)), samples.shape[-1] in (2, 4)
    if picture is not None and picture.mode.startswith("I") and form == "PPM":
        samples = np.asarray(picture)
        if samples.min() < 0 or samples.max() > _WHITE:
            return None
        return samples.astype(np.uint16)[..., None], False
    return None


def read_deep(
    path: Path, form: str | None, limit: float, *, picture: Image.Image | None = None
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Reads more than 8 bits as 16, upright.

    Args:
      path: the file.
      form: Pillow's name of its format.
      limit: megapixels.
      picture: as Pillow decoded it, where it could.

    Returns:
      Pixels uint16 (H, W, 3 or 1) and transparency (H, W, 1) or None; or None for
      what cannot be restored: 32 bits, CMYK, or channels of no known meaning.
    """
    found = _read(path, form, limit, picture)
    if found is None:
        return None
    samples, transparent = found
    orientation = 1 if picture is None else picture.getexif().get(Base.Orientation, 1)
    if form == "TIFF":
        # Pillow has turned its own picture already, and forgotten the tag.
        orientation = _tiff_orientation(path)
    swap, flip_rows, flip_columns = _UPRIGHT.get(orientation, (False, False, False))
    if swap:
        samples = samples.swapaxes(0, 1)
    samples = samples[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    if transparent:
        return samples[..., :-1], samples[..., -1:]
    return samples, None
