"""The sigma of white Gaussian noise, from the principal components of small patches.

Clean patches lie in few dimensions, while white noise fills all of them equally: the small
eigenvalues of the patch covariance equal the noise variance. How many eigenvalues are noise
is decided as by Chen, Zhu and Heng, "An Efficient Statistical Method for Image Noise Level
Estimation" (ICCV 2015): the largest number of them whose mean is also their median.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from hypernet_jax.errors import UserError

__all__ = ["noise_sigma", "patch_sigma"]

_SIDE = 6
# Beyond this number of patches only every second, third and so on is used along each axis.
_MOST = 60_000
# With fewer patches per dimension the covariance is unreliable.
_FEWEST_PER_DIMENSION = 5

# Largest standard deviation of colours from a line in RGB, in grey levels, to count as grey.
_LEAST_COLOUR = 1.5

# Clipping to 0..255 makes strong noise look weaker. `_SEEN` is the result of `patch_sigma` for
# 8-bit noise of sigma `_TRUE`, the mean over 24 training photographs by
# benchmarks/noise_estimate.py; interpolated linearly.
_TRUE = (0, 2, 5, 10, 15, 20, 25, 30, 35, 40, 50, 60, 70, 80, 90, 100)
_SEEN = (
    0.39, 2.07, 5.05, 10.02, 14.97, 19.91, 24.75, 29.41,
    34.25, 38.67, 46.55, 54.82, 61.48, 67.14, 72.1, 76.19,
)  # fmt: skip


def _without_colour(pixels: np.ndarray) -> bool:
    """Whether the colours lie on a line, up to rounding: a grey or toned image.

    The channels and their noise then span only one dimension.
    """
    colours = pixels.reshape(-1, 3).astype(np.float64)
    across = np.linalg.eigvalsh(np.cov(colours.T))[1]
    return bool(across < _LEAST_COLOUR**2)


def patch_sigma(pixels: np.ndarray) -> float:
    """Standard deviation of the noise in the patches, without correction for clipping.

    Args:
      pixels: (H, W, C) in 0..255, C = 1 or 3.

    Returns:
      Grey levels of 8 bits.

    Raises:
      UserError: if the image is too small.
    """
    pixels = np.asarray(pixels, np.float32)
    height, width = pixels.shape[:2]
    places = max(0, height - _SIDE + 1) * max(0, width - _SIDE + 1)
    if places and pixels.shape[-1] == 3 and _without_colour(pixels):
        pixels = pixels.mean(axis=-1, keepdims=True)
    dimensions = pixels.shape[-1] * _SIDE**2
    if places < _FEWEST_PER_DIMENSION * dimensions:
        raise UserError(
            f"The {width}x{height} pixels that are examined are too few to estimate the noise; "
            "give the level."
        )
    stride = max(1, int((places / _MOST) ** 0.5))

    def patches(image):
        windows = sliding_window_view(image, (_SIDE, _SIDE), (0, 1))[::stride, ::stride]
        return windows.reshape(-1, dimensions)

    seen = patches(pixels)
    # Saturated pixels have less noise, so such patches are used only if there are too few others.
    saturated = patches(((pixels <= 0) | (pixels >= 255)).astype(np.float32)).mean(axis=1)
    chosen = seen[saturated == 0]
    fewest = 20 * dimensions
    if len(chosen) < fewest:
        chosen = seen[np.argsort(saturated, kind="stable")[: max(fewest, len(seen) // 10)]]
    eigenvalues = np.linalg.eigvalsh(np.cov(chosen.T.astype(np.float64)))
    for count in range(dimensions, 0, -1):
        smallest = eigenvalues[:count]
        mean = smallest.mean()
        if np.sum(smallest > mean) >= np.sum(smallest < mean):
            break
    return float(np.sqrt(max(mean, 0.0)))


def noise_sigma(pixels: np.ndarray) -> float:
    """Sigma, 0 to 100, of an 8-bit image's noise before clipping and rounding.

    Args:
      pixels: (H, W, C) in 0..255, C = 1 or 3. Small images seem less noisy than they are: at
        32x32 pixels by a fifth.

    Raises:
      UserError: if the image is too small (colour: about 28x28 pixels).
    """
    return float(np.interp(patch_sigma(pixels), _SEEN, _TRUE))
