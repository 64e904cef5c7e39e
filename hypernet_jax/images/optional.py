"""Formats that need an extra: HEIF, JPEG XL and raw files of cameras.

Plugins add HEIF and JPEG XL to Pillow; LibRaw develops raw files.
"""

import contextlib
import functools
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hypernet_jax.errors import UserError
from hypernet_jax.images.deep import at_full_depth
from hypernet_jax.images.limits import check_limit, check_still

__all__ = [
    "RAW_SUFFIXES",
    "is_raw",
    "jxl_samples",
    "jxl_xmp",
    "read_heif",
    "read_raw",
    "register_codec",
    "require_jxl_writer",
]

RAW_SUFFIXES = (
    *(".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".kdc", ".mrw", ".nef", ".nrw", ".orf"),
    *(".pef", ".raf", ".raw", ".rw2", ".srw", ".x3f"),
)

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_JXL_STARTS = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n")
# The sRGB gamma in LibRaw's form: power, and slope of the linear part.
_SRGB_GAMMA = (2.4, 12.92)


def is_raw(path: Path) -> bool:
    """Whether a file is a raw file, by its name: by content many look like TIFF files."""
    return path.suffix.lower() in RAW_SUFFIXES


@contextlib.contextmanager
def _needs(package: str, extra: str, what: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise UserError(f"{what} needs {package}: install hypernet-jax[{extra}].") from None


@functools.cache
def _register_heif() -> None:
    importlib.import_module("pillow_heif").register_heif_opener()


def register_codec(path: Path) -> None:
    """Loads Pillow's plugin for a HEIF or JPEG XL file, recognised by its first bytes.

    Raises:
      UserError: names the extra, if it is missing.
    """
    with path.open("rb") as file:
        start = file.read(16)
    if start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS:
        with _needs("pillow_heif", "heif", f"Reading the HEIF image {path}"):
            _register_heif()
    elif start.startswith(_JXL_STARTS):
        with _needs("pillow_jxl", "jxl", f"Reading the JPEG XL image {path}"):
            importlib.import_module("pillow_jxl")


def require_jxl_writer() -> None:
    """Loads Pillow's plugin for writing JPEG XL; `UserError` if the extra is missing."""
    with _needs("pillow_jxl", "jxl", "Writing JPEG XL"):
        importlib.import_module("pillow_jxl")


def read_heif(path: Path, bits: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Upright pixels, uint16 (H, W, 3 or 1), and transparency of a 10- or 12-bit HEIF file."""
    opened = importlib.import_module("pillow_heif").open_heif(path, convert_hdr_to_8bit=False)
    samples = np.asarray(opened)
    if samples.ndim == 2:
        samples = samples[..., None]
    samples = at_full_depth(samples >> (16 - bits), bits)
    if samples.shape[-1] in (2, 4):
        return samples[..., :-1], samples[..., -1:]
    return samples, None


def jxl_samples(path: Path) -> np.ndarray:
    """Upright samples (H, W, C) of a JPEG XL file at full bit depth; Pillow has only 8 bits.

    Raises:
      UserError: if it is an animation.
    """
    import imagecodecs

    samples: Any = imagecodecs.jpegxl_decode(path.read_bytes())
    check_still(path, len(samples) if samples.ndim == 4 else 1)
    return samples[..., None] if samples.ndim == 2 else samples


def jxl_xmp(path: Path) -> bytes | None:
    """The XMP packet of a JPEG XL file, from the boxes of its container; None if it has none."""
    content = path.read_bytes()
    start = 0
    while start + 8 <= len(content):
        length = int.from_bytes(content[start : start + 4], "big")
        head = 8
        if length == 1:  # the length is in the next 64 bits
            length, head = int.from_bytes(content[start + 8 : start + 16], "big"), 16
        end = start + length if length else len(content)
        if content[start + 4 : start + 8] == b"xml ":
            return content[start + head : end]
        if end < start + head:  # a bare codestream, which has no boxes, or a damaged file
            return None
        start = end
    return None


def read_raw(path: Path, limit: float) -> np.ndarray:
    """Develops a raw file to upright sRGB, uint16 (H, W, 3), with the camera's white balance.

    Args:
      path: the file.
      limit: megapixels.

    Raises:
      UserError: if rawpy is missing, LibRaw cannot read the file, or it is too large.
    """
    with _needs("rawpy", "raw", f"Reading the raw file {path}"):
        rawpy = importlib.import_module("rawpy")
    try:
        with rawpy.imread(str(path)) as raw:
            check_limit(path, (raw.sizes.width, raw.sizes.height), limit)
            return raw.postprocess(
                use_camera_wb=True,
                no_auto_bright=True,
                output_bps=16,
                gamma=_SRGB_GAMMA,
                output_color=rawpy.ColorSpace.sRGB,
            )
    except (rawpy.LibRawNonFatalError, rawpy.LibRawFatalError) as error:
        reason = error.args[0] if error.args else "unknown"
        reason = reason.decode() if isinstance(reason, bytes) else reason
        raise UserError(f"The raw file {path} cannot be developed ({reason}).") from None
