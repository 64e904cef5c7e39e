"""PNG, AVIF, JPEG 2000 and PPM of more than 8 bits, which Pillow would cut down without a word."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

__all__ = ["at_full_depth", "avif_bits", "jpeg2k_bits", "read_deep"]

_WHITE = 65535


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


def _is_sycc(path: Path) -> bool:
    """Whether a JP2 file says that its channels are luminance and two differences."""
    with path.open("rb") as file:
        return b"colr\x01\0\0\0\0\0\x12" in file.read(1 << 16)


def at_full_depth(samples: np.ndarray, bits: int) -> np.ndarray:
    """Integers of so many bits stretched over all that their type has, 8 or 16."""
    samples = samples.astype(samples.dtype.newbyteorder("="))
    full = 8 * samples.dtype.itemsize
    if bits >= full:
        return samples
    factor = np.float32((2**full - 1) / (2**bits - 1))
    return np.round(samples * factor).astype(samples.dtype)


# Formats that imagecodecs decodes: its function, and bits per channel of a file.
_DECODED = {
    "PNG": ("png_decode", lambda path: 16),
    "AVIF": ("avif_decode", avif_bits),
    "JPEG2000": ("jpeg2k_decode", jpeg2k_bits),
}


def read_deep(
    path: Path, form: str | None, picture: Image.Image
) -> tuple[np.ndarray, np.ndarray | None] | None:
    """Reads more than 8 bits as 16, not turned.

    Args:
      path: the file.
      form: Pillow's name of its format.
      picture: as Pillow decoded it.

    Returns:
      Pixels uint16 (H, W, 3 or 1) and transparency (H, W, 1) or None; or None for
      what cannot be restored: 32 bits, CMYK, or channels of no known meaning.
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


# Magic number, width, height and greatest value, with comments between them.
_PPM_HEADER = re.compile(rb"P([56])" + 3 * rb"(?:\s|#[^\n]*\n)+(\d{1,9})" + rb"\s", re.DOTALL)


def _read_ppm(path: Path) -> np.ndarray:
    """A binary PGM or PPM file of more than 8 bits as one of 16."""
    content = path.read_bytes()
    head = _PPM_HEADER.match(content)
    if head is None:
        raise ValueError("its header is damaged")
    width, height, greatest = (int(head[index]) for index in (2, 3, 4))
    channels = 3 if head[1] == b"6" else 1
    samples = np.frombuffer(content, ">u2", width * height * channels, head.end())
    scaled = np.round(samples.astype(np.float64) * (_WHITE / greatest))
    return np.minimum(scaled, _WHITE).astype(np.uint16).reshape(height, width, channels)
