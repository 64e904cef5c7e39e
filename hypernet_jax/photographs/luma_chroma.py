"""Luminance of one restoration, colour of another: as photo editors turn noise of both apart."""

import numpy as np

from hypernet_jax.images.channels import LUMA
from hypernet_jax.inference.sources import unit_of

__all__ = ["luma_with_chroma"]

# BT.601, of which JPEG's YCbCr is made, too.
_ROWS = 256


def luma_with_chroma(luma: np.ndarray, chroma: np.ndarray) -> np.ndarray:
    """The picture that has Y of `luma` and Cb and Cr of `chroma`.

    Args:
      luma, chroma: (H, W, C) of one shape and type, C = 3 or 1; uint8, uint16 or float in [0, 1].

    Returns:
      The same shape and type, clipped to its range. What is grey has its luminance alone.
    """
    if luma.shape[-1] == 1:
        return luma
    merged = np.empty_like(chroma)
    white = unit_of(chroma.dtype)
    for top in range(0, len(chroma), _ROWS):
        rows = slice(top, top + _ROWS)
        colour = chroma[rows].astype(np.float32)
        # RGB is Y and a sum of Cb and Cr: another Y is the same amount more of each channel.
        more = (luma[rows].astype(np.float32) - colour) @ LUMA
        band = np.clip(colour + more[..., None], 0.0, white)
        merged[rows] = np.round(band) if chroma.dtype.kind == "u" else band
    return merged
