"""Combines the luminance of one restoration with the chrominance of another."""

import numpy as np
from jaxtyping import Real

from hypernet_jax.images.channels import LUMA
from hypernet_jax.inference.sources import unit_of

__all__ = ["luma_with_chroma"]

# Rows to process at once.
_ROWS = 256


def luma_with_chroma(
    luma: Real[np.ndarray, "h w c"], chroma: Real[np.ndarray, "h w c"]
) -> Real[np.ndarray, "h w c"]:
    """The picture with the BT.601 Y of `luma` and the Cb and Cr of `chroma`.

    Args:
      luma, chroma: (H, W, C) of equal shape and dtype, C = 3 or 1; uint8, uint16 or float in
        [0, 1].

    Returns:
      The same shape and dtype, clipped to its range. For grey, `luma`.
    """
    if luma.shape[-1] == 1:
        return luma
    merged = np.empty_like(chroma)
    white = unit_of(chroma.dtype)
    for top in range(0, len(chroma), _ROWS):
        rows = slice(top, top + _ROWS)
        colour = chroma[rows].astype(np.float32)
        # RGB is Y plus a combination of Cb and Cr, so a change of Y adds equally to each channel.
        more = (luma[rows].astype(np.float32) - colour) @ LUMA
        band = np.clip(colour + more[..., None], 0.0, white)
        merged[rows] = np.round(band) if chroma.dtype.kind == "u" else band
    return merged
