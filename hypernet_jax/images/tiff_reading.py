"""Reads TIFF files that Pillow does not support: high bit depth, floats, rare compression."""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from hypernet_jax.errors import UserError
from hypernet_jax.images.deep import at_full_depth
from hypernet_jax.images.limits import check_limit, check_still, check_tile, check_unit_range

__all__ = ["is_tiff", "read_tiff"]

_SIGNED, _COMPLEX = 2, (5, 6)
_REMEDY = "convert it to a 16-bit PNG or TIFF, grey or RGB"


def is_tiff(path: Path) -> bool:
    """Whether a file begins like a TIFF file; Pillow does not recognise all of them."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_tiff(path: Path, limit: float) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Reads the samples of a TIFF file as stored, without applying its orientation.

    Args:
      path: the file.
      limit: megapixels.

    Returns:
      Pixels (H, W, 3 or 1), uint8, uint16, float16 or float32; transparency (H, W, 1) of the
      same dtype, or None; and short notes on what could not be kept.

    Raises:
      UserError: one sentence on why it cannot be restored.
    """
    # Imported here because most runs do not need it.
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    with tifffile.TiffFile(path) as file:
        page: Any = file.pages.first
        size = (page.imagewidth, page.imagelength)
        check_limit(path, size, limit)
        if page.is_tiled:
            check_tile(path, (page.tilewidth, page.tilelength), size)
        check_still(path, len(file.pages))
        colours = _check_kind(path, page)
        samples = page.asarray()
        if page.axes == "SYX":
            samples = np.moveaxis(samples, 0, -1)
        samples = samples.reshape(page.imagelength, page.imagewidth, -1)
        notes = []
        if samples.dtype == np.float64:
            samples = samples.astype(np.float32)
            notes.append("its 64-bit floats were rounded to 32 bits")
        if np.issubdtype(samples.dtype, np.floating):
            samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
            check_unit_range(samples, path)
            white: Any = samples.dtype.type(1)
        else:
            samples = at_full_depth(samples, _bits_of_first(page))
            white = np.iinfo(samples.dtype).max
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            samples[..., :1] = white - samples[..., :1]
        if samples.shape[-1] == colours:
            return samples, None, notes
        pixels, alpha = samples[..., :-1], samples[..., -1:]
        if tifffile.EXTRASAMPLE.ASSOCALPHA in page.extrasamples:
            pixels = _unassociated(pixels, alpha, white)
        return pixels, alpha, notes


def _check_kind(path: Path, page: Any) -> int:
    """The number of colour channels; `UserError` if the file cannot be restored."""
    import tifffile

    kind = _kind_of_samples(page)
    if kind is not None:
        raise UserError(f"The image {path} has {kind}, which are not supported; {_REMEDY}.")
    photometric = tifffile.PHOTOMETRIC
    grey = page.photometric in (photometric.MINISWHITE, photometric.MINISBLACK)
    # The JPEG decoder converts YCbCr to RGB.
    as_rgb = page.photometric == photometric.YCBCR and page.compression in (6, 7)
    if not grey and not as_rgb and page.photometric != photometric.RGB:
        name = getattr(page.photometric, "name", str(page.photometric))
        raise UserError(
            f"The image {path} has its colours as {name} in {_bits(page)} bits per channel, "
            f"which is not supported; {_REMEDY}."
        )
    colours = 1 if grey else 3
    alphas = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
    # A further channel may be infrared, or a selection.
    known_alpha = page.samplesperpixel == colours + 1 and any(
        extra in alphas for extra in page.extrasamples
    )
    if page.samplesperpixel != colours and not known_alpha:
        raise UserError(
            f"The image {path} has {page.samplesperpixel} channels, some of unknown meaning; "
            f"{_REMEDY}."
        )
    if page.axes not in ("YX", "YXS", "SYX"):
        raise UserError(f"The image {path} has more than two dimensions; {_REMEDY}.")
    try:
        tifffile.TIFF.DECOMPRESSORS[page.compression]
    except Exception:  # the type for a missing decoder is not documented
        name = getattr(page.compression, "name", str(page.compression))
        raise UserError(
            f"The image {path} is compressed as {name}, which cannot be read here; {_REMEDY}."
        ) from None
    return colours


def _bits(page: Any) -> int:
    bits = page.bitspersample
    return int(max(bits) if isinstance(bits, tuple) else bits)


def _bits_of_first(page: Any) -> int:
    bits = page.bitspersample
    return int(bits[0] if isinstance(bits, tuple) else bits)


def _kind_of_samples(page: Any) -> str | None:
    """A description of samples that cannot be restored; None if they can."""
    formats = page.sampleformat if isinstance(page.sampleformat, tuple) else (page.sampleformat,)
    bits = _bits(page)
    if _SIGNED in formats:
        return f"signed {bits}-bit samples"
    if any(one in _COMPLEX for one in formats):
        return "samples of complex numbers"
    if page.dtype is not None and np.issubdtype(page.dtype, np.floating):
        return None if page.dtype in (np.float16, np.float32, np.float64) else f"{bits}-bit floats"
    if page.dtype in (np.uint8, np.uint16):
        return None
    return f"{bits}-bit integer samples"


def _unassociated(pixels: np.ndarray, alpha: np.ndarray, white: Any) -> np.ndarray:
    """Undoes the premultiplication of colours by transparency."""
    floating = np.issubdtype(pixels.dtype, np.floating)
    least = np.float32(white) * (1e-6 if floating else 1.0 / white)
    share = np.maximum(alpha.astype(np.float32), least) / np.float32(white)
    before = np.minimum(pixels.astype(np.float32) / share, np.float32(white))
    return (before if floating else np.round(before)).astype(pixels.dtype)
