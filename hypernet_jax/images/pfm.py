"""PFM, the portable float map: a text header, then 32-bit floats from the bottom row up."""

import re
from pathlib import Path

import numpy as np

from hypernet_jax.images.limits import check_limit, check_unit_range

__all__ = ["encode_pfm", "is_pfm", "read_pfm"]

_HEADER = re.compile(
    rb"P([Ff])\s+(\d{1,9})\s+(\d{1,9})\s+([-+]?[0-9.]+(?:[eE][-+]?\d+)?)(?:\r?\n|\s)"
)


def is_pfm(path: Path) -> bool:
    """Whether a file begins like a PFM file."""
    with path.open("rb") as file:
        return re.match(rb"P[Ff]\s", file.read(3)) is not None


def read_pfm(path: Path, limit: float) -> np.ndarray:
    """Pixels, float32 (H, W, 3 or 1) in [0, 1].

    Raises:
      ValueError: if it is truncated or its header is damaged.
      UserError: if it has more than `limit` megapixels, or its samples are not in [0, 1].
    """
    with path.open("rb") as file:
        head = _HEADER.match(file.read(256))
        if head is None:
            raise ValueError("its header is damaged")
        width, height = int(head[2]), int(head[3])
        check_limit(path, (width, height), limit)
        channels = 3 if head[1] == b"F" else 1
        file.seek(head.end())
        count = width * height * channels
        # The sign of the scale gives the byte order.
        content = file.read(4 * count)
    if len(content) < 4 * count or not count:
        raise ValueError("it is cut short")
    samples = np.frombuffer(content, "<f4" if float(head[4]) < 0 else ">f4")
    check_unit_range(samples, path)
    upside_down = samples.reshape(height, width, channels)
    return np.ascontiguousarray(upside_down[::-1], np.float32)


def encode_pfm(pixels: np.ndarray) -> bytes:
    """Encodes pixels (H, W, 3 or 1): floats unchanged, integers as floats from 0 to 1."""
    height, width, channels = pixels.shape
    if pixels.dtype.kind == "u":
        pixels = pixels / np.float32(np.iinfo(pixels.dtype).max)
    head = f"P{'F' if channels == 3 else 'f'}\n{width} {height}\n-1.0\n"
    return head.encode() + pixels[::-1].astype("<f4").tobytes()
