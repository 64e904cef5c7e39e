"""Reads PNG, AVIF, JPEG 2000 and PPM at high bit depth; Pillow silently reduces them to 8 bits."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from hypernet_jax.errors import UserError

__all__ = ["at_depth", "at_full_depth", "avif_bits", "jpeg2k_bits", "read_deep"]

_WHITE = 65535


def avif_bits(path: Path) -> int:
    """Bits per channel, 8, 10 or 12, from the flags of the file's AV1 configuration."""
    with path.open("rb") as file:
        found = re.search(rb"av1C\x81.(.)", file.read(1 << 16), re.DOTALL)
    flags = found[1][0] if found else 0
    if not flags & 0x40:
        return 8
    return 12 if flags & 0x20 else 10


def jpeg2k_bits(path: Path) -> int:
    """Bits per channel of a JPEG 2000 file, from the header of its codestream."""
    with path.open("rb") as file:
        content = file.read(1 << 16)
    # Markers SOC and SIZ; 36 bytes of sizes; number of channels; for each its depth minus one.
    start = content.find(b"\xff\x4f\xff\x51")
    depths = content[start + 42 :: 3] if start >= 0 else b""
    count = int.from_bytes(content[start + 40 : start + 42], "big")
    return max(((depth & 0x7F) + 1 for depth in depths[:count]), default=8)


def _is_sycc(path: Path) -> bool:
    """Whether a JP2 file declares its channels as luminance and chrominance (sYCC)."""
    with path.open("rb") as file:
        return b"colr\x01\0\0\0\0\0\x12" in file.read(1 << 16)


def at_full_depth(samples: np.ndarray, bits: int) -> np.ndarray:
    """Scales integers of `bits` bits to the full range of their dtype, 8 or 16 bits."""
    samples = samples.astype(samples.dtype.newbyteorder("="))
    full = 8 * samples.dtype.itemsize
    if bits >= full:
        return samples
    factor = np.float32((2**full - 1) / (2**bits - 1))
    return np.round(samples * factor).astype(samples.dtype)


# Formats that imagecodecs decodes: the function, and the bits per channel of a file.
_DECODED = {
    "PNG": ("png_decode", lambda path: 16),
    "AVIF": ("avif_decode", avif_bits),
    "JPEG2000": ("jpeg2k_decode", jpeg2k_bits),
}


def read_deep(
    path: Path, form: str | None, picture: Image.Image
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Reads a picture of more than 8 bits as 16 bits, without applying its orientation.

    Args:
      path: the file.
      form: Pillow's name of its format.
      picture: as Pillow decoded it.

    Returns:
      Pixels uint16 (H, W, 3 or 1) and transparency (H, W, 1) or None; or None for
      pictures that cannot be restored: 32 bits, CMYK, or channels of unknown meaning.
    """
    if form in _DECODED:
        import imagecodecs

        decoder, bits_of = _DECODED[form]
        samples = getattr(imagecodecs, decoder)(path.read_bytes())
        if samples.ndim == 2:
            samples = samples[..., None]
        if samples.dtype != np.uint16 or samples.shape[-1] > 4:
            return None
        if form == "JPEG2000" and _is_sycc(path):
            return None
        samples = at_full_depth(samples, bits_of(path))
        if samples.shape[-1] in (2, 4):
            return samples[..., :-1], samples[..., -1:]
        return samples, None
    if form == "PPM":
        return _read_ppm(path), None
    return None


# Magic number, width, height and maximum value, with comments between them.
_PPM_HEADER = re.compile(rb"P([56])" + 3 * rb"(?:\s|#[^\n]*\n)+(\d{1,9})" + rb"\s", re.DOTALL)


def _read_ppm(path: Path) -> np.ndarray:
    """Reads a binary PGM or PPM file of more than 8 bits as 16 bits."""
    content = path.read_bytes()
    if content[:2] in (b"P2", b"P3"):
        raise UserError(
            f"The image {path} is a plain PGM or PPM file of more than 8 bits, which cannot be "
            "read; save it as a binary one, or as PNG."
        )
    head = _PPM_HEADER.match(content)
    if head is None:
        raise ValueError("its header is damaged")
    width, height, greatest = (int(head[index]) for index in (2, 3, 4))
    channels = 3 if head[1] == b"6" else 1
    samples = np.frombuffer(content, ">u2", width * height * channels, head.end())
    scaled = np.round(samples.astype(np.float64) * (_WHITE / greatest))
    return np.minimum(scaled, _WHITE).astype(np.uint16).reshape(height, width, channels)


def at_depth(samples: np.ndarray, depth: int) -> np.ndarray:
    """Samples of uint16, or floats in [0, 1], rounded to 8 or 16 bits."""
    kind = np.uint8 if depth == 8 else np.uint16
    if np.issubdtype(samples.dtype, np.floating):
        return np.round(samples.astype(np.float32) * np.float32(2**depth - 1)).astype(kind)
    # 257 times 255 is 65535.
    return ((samples.astype(np.uint32) + 128) // 257).astype(kind)
