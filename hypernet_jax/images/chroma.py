"""Smooth upsampling of chrominance that a decoder only repeated over 2x2 pixels."""

import numpy as np
from jaxtyping import Shaped

from hypernet_jax.images.channels import LUMA

__all__ = ["interpolated_chroma"]

# Largest deviation of a colour difference from its block's mean, in grey levels (rounding), and
# the share of pixels that must satisfy it (clipping spoils some).
_ROUNDING, _SHARE = 1.5, 0.8
_ROWS = 256


def interpolated_chroma(pixels: Shaped[np.ndarray, "h w c"]) -> Shaped[np.ndarray, "h w c"]:
    """Interpolates chrominance that was halved and repeated; returns other pictures unchanged.

    For any YCbCr matrix, R - G and B - G depend only on chrominance, not on luminance. They are
    interpolated linearly between the centres of the blocks; the luminance is kept.

    Args:
      pixels: (H, W, C), uint8 or uint16; returned unchanged unless C is 3.
    """
    height, width, channels = pixels.shape
    if channels != 3 or height < 4 or width < 4:
        return pixels
    unit = np.iinfo(pixels.dtype).max / 255.0
    means = np.empty((-(-height // 2), -(-width // 2), 2), np.float32)
    kept = 0
    for top in range(0, height, _ROWS):
        differences = _differences(pixels[top : top + _ROWS])
        own = _block_means(differences)
        means[top // 2 : top // 2 + len(own)] = own
        repeated = own.repeat(2, axis=0).repeat(2, axis=1)[: len(differences), :width]
        kept += int((np.abs(differences - repeated) <= _ROUNDING * unit).all(axis=-1).sum())
    if kept < _SHARE * height * width:
        return pixels
    made = np.empty_like(pixels)
    columns = _places(width)
    for top in range(0, height, _ROWS):
        band = pixels[top : top + _ROWS].astype(np.float32)
        first, second, share = (each[top : top + len(band), None] for each in _places(height))
        rows = means[first[:, 0]] * (1 - share[..., None]) + means[second[:, 0]] * share[..., None]
        left, right, part = columns
        red, blue = np.moveaxis(
            rows[:, left] * (1 - part[:, None]) + rows[:, right] * part[:, None], -1, 0
        )
        green = band @ LUMA - LUMA[0] * red - LUMA[2] * blue
        colours = np.stack([green + red, green, green + blue], axis=-1)
        made[top : top + len(band)] = np.clip(np.round(colours), 0, 255 * unit)
    return made


def _differences(pixels: np.ndarray) -> np.ndarray:
    """R - G and B - G."""
    signed = pixels.astype(np.float32)
    return signed[..., [0, 2]] - signed[..., 1:2]


def _block_means(values: np.ndarray) -> np.ndarray:
    ends = [(0, length % 2) for length in values.shape[:2]]
    even = np.pad(values, (*ends, (0, 0)), mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def _places(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel the blocks before and after it, and the weight of the one after."""
    place = np.clip((np.arange(length) - 0.5) / 2, 0, (length - 1) // 2)
    first = place.astype(int)
    last = np.minimum(first + 1, (length - 1) // 2)
    return first, last, (place - first).astype(np.float32)
