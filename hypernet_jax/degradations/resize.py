"""Bicubic resampling as in the super-resolution literature.

Cubic convolution with a = -0.5, antialiased when shrinking, with symmetric
padding at the borders (Keys 1981; MATLAB's `imresize`). Image libraries that
do not antialias, or that use a = -0.75, differ by about 1 dB.
"""

import functools
import math

import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Float32, Real

__all__ = ["bicubic_down_up", "bicubic_reduce", "bicubic_resize"]


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel, a = -0.5."""
    x = np.abs(x)
    inner = 1.5 * x**3 - 2.5 * x**2 + 1.0
    outer = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return np.where(x <= 1.0, inner, np.where(x < 2.0, outer, 0.0))


@functools.lru_cache(maxsize=256)
def _taps(size_in: int, size_out: int, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Source indices and weights, each (taps, size_out), for one axis.

    `factor` is the exact number of output samples per input sample; sizes may be rounded.
    """
    stretch = max(1.0, 1.0 / factor)
    centres = (np.arange(size_out) + 0.5) / factor - 0.5
    taps = math.ceil(4.0 * stretch) + 2
    first = np.floor(centres - 2.0 * stretch).astype(int)
    indices = first[None] + np.arange(taps)[:, None]
    weights = _cubic((centres[None] - indices) / stretch)
    weights /= weights.sum(axis=0)
    used = np.any(weights != 0.0, axis=1)
    # Symmetric padding: ... 1 0 | 0 1 2 ... n-1 | n-1 n-2 ...
    folded = np.mod(indices[used], 2 * size_in)
    folded = np.where(folded < size_in, folded, 2 * size_in - 1 - folded)
    return folded, weights[used].astype(np.float32)


def _resize_axis(image: np.ndarray, axis: int, taps: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    indices, weights = taps
    shape = [1] * image.ndim
    shape[axis] = indices.shape[1]
    # A sum over taps instead of a dense matrix: memory stays linear in the image size.
    return sum(
        np.take(image, index, axis=axis) * weight.reshape(shape)
        for index, weight in zip(indices, weights, strict=True)
    )


def bicubic_resize(
    image: Real[ArrayLike, "*n h w c"],
    factor: float,
    *,
    size: tuple[int, int] | None = None,
    window: tuple[slice, slice] = (slice(None), slice(None)),
) -> Float32[np.ndarray, "*n h2 w2 c"]:
    """Resizes by a real factor.

    Args:
      image: (..., H, W, C), 0 to 255, uint8 or float.
      factor: output samples per input sample; below 1 shrinks, with antialiasing.
      size: (height, width) of the output; ceil(H * factor), ceil(W * factor) if None.
      window: the rows and columns of the output to compute, at least one of each; time
        and memory depend on the window, not on the image.

    Returns:
      float32, neither rounded nor clipped: cubics overshoot.
    """
    image = np.asarray(image)
    if size is None:
        size = tuple(math.ceil(length * factor - 1e-6) for length in image.shape[-3:-1])
    taps = []
    for axis in (-3, -2):
        indices, weights = _taps(image.shape[axis], size[axis + 3], float(factor))
        indices, weights = indices[:, window[axis + 3]], weights[:, window[axis + 3]]
        first = indices.min()
        image = image[(..., slice(first, indices.max() + 1)) + (slice(None),) * (-axis - 1)]
        taps.append((indices - first, weights))
    rows = _resize_axis(image.astype(np.float32), image.ndim - 3, taps[0])
    return _resize_axis(rows, image.ndim - 2, taps[1])


def bicubic_reduce(
    image: Real[ArrayLike, "*n h w c"], scale: float
) -> Float32[np.ndarray, "*n h2 w2 c"]:
    """Shrinks by `scale` and rounds to 8 bits like a file.

    Args:
      image: (..., H, W, C), 0 to 255.
      scale: factor per side, 1 or more.

    Returns:
      float32 whole numbers from 0 to 255.
    """
    return np.clip(np.round(bicubic_resize(image, 1.0 / scale)), 0, 255)


def bicubic_down_up(
    key, image: Real[ArrayLike, "*n h w c"], scale
) -> Float32[np.ndarray, "*n h w c"]:
    """Shrinks by `scale`, rounds to 8 bits like a file, and enlarges to the original size.

    Args:
      key: unused; resampling is deterministic.
      image: (..., H, W, C), 0 to 255.
      scale: factor per side, 1 or more, fractions allowed. Height and width need not be
        multiples of it, although the literature crops them for its figures.

    Returns:
      float32 of the image's shape; neither rounded nor clipped.
    """
    del key
    scale = float(scale)
    image = np.asarray(image)
    return bicubic_resize(bicubic_reduce(image, scale), scale, size=image.shape[-3:-1])
