"""Masks as level maps: white takes the level in full, black none of it."""

from pathlib import Path

import numpy as np
from PIL import Image

from hypernet_jax.errors import UserError
from hypernet_jax.images.channels import luminance
from hypernet_jax.images.reading import read_photograph
from hypernet_jax.inference.sources import unit_of
from hypernet_jax.levels import Level

__all__ = ["level_map", "read_mask"]

# How far the proportions of mask and image may differ: a row or column of rounding.
_ODD = 1.5


def read_mask(path: str | Path, size: tuple[int, int]) -> np.ndarray:
    """Reads a mask, as float32 (H, W) in [0, 1], in the size of an image.

    Args:
      path: an image file, grey or coloured, of 8 or 16 bits or floats, of the image's proportions.
      size: (H, W) of the image.

    Raises:
      UserError: if it cannot be read, or has other proportions.
    """
    pixels = read_photograph(path).pixels
    mask = pixels.astype(np.float32) / np.float32(unit_of(pixels.dtype))
    if mask.shape[-1] == 3:
        grey = (mask == mask[..., :1]).all()
        mask = mask[..., :1] if grey else luminance(np.round(255 * mask).astype(np.uint8)) / 255
    mask = np.asarray(mask[..., 0], np.float32)
    height, width = mask.shape
    if abs(height * size[1] - width * size[0]) > _ODD * max(*size, height, width):
        raise UserError(
            f"The mask {path} has {width}x{height} pixels, other proportions than the image's "
            f"{size[1]}x{size[0]}; draw it on the image itself."
        )
    if (height, width) != size:
        picture = Image.fromarray(mask, "F").resize(size[::-1], Image.Resampling.BILINEAR)
        mask = np.clip(np.asarray(picture), 0.0, 1.0)
    return mask


def level_map(level: Level, mask: np.ndarray) -> np.ndarray:
    """The level of every pixel, (H, W, A) in native units.

    Args:
      level: where the mask is white.
      mask: (H, W) in [0, 1]; of 0, the level is neutral. Between them z of each part, on which the
        kernels depend, goes from one to the other in proportion.
    """
    parts = []
    for axis, value in zip(level.space.axes, level.values, strict=True):
        shares = np.linspace(0.0, 1.0, 4097)
        table = axis.scaled(value, shares)
        table[0], table[-1] = axis.neutral, value
        parts.append(np.interp(mask, shares, table))
    return np.stack(parts, axis=-1).astype(np.float32)
