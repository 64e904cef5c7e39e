"""The sigma of white Gaussian noise, from the principal components of small patches.

Clean patches live in few dimensions, white noise in all of them alike: the small
eigenvalues of the patches' covariance are the variance of the noise. How many of them
are noise is settled as by Chen, Zhu and Heng, "An Efficient Statistical Method for Image
Noise Level Estimation" (ICCV 2015): the most of which the mean is also the median.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from hypernet_jax.errors import UserError

__all__ = ["noise_sigma", "patch_sigma"]

_SIDE = 6
# Patches looked at: more make it slower, not better.
_MOST = 60_000
# Patches per dimension below which a covariance says little.
_FEWEST_PER_DIMENSION = 5

# Standard deviation, in grey levels, of colours across the line on which most of them lie.
_LEAST_COLOUR = 1.5

# 8-bit noise is clipped to 0..255, which makes strong noise look weaker. What `patch_sigma`
# says of 8-bit noise of a true sigma, mean over 24 training photographs, made by
# benchmarks/noise_estimate.py; linear between its entries.
_TRUE = (0, 2, 5, 10, 15, 20, 25, 30, 35, 40, 50, 60, 70, 80, 90, 100)
_SEEN = (
    0.39, 2.07, 5.05, 10.02, 14.97, 19.91, 24.75, 29.41,
    34.25, 38.67, 46.55, 54.82, 61.48, 67.14, 72.1, 76.19,
)  # fmt: skip


def _without_colour(pixels: np.ndarray) -> bool:
    """Whether the colours lie on one line, but for rounding: a grey image, or a toned one.

    The channels, with the noise in them, are no more dimensions than one then.
    """
    colours = pixels.reshape(-1, 3).astype(np.float64)
    across = np.linalg.eigvalsh(np.cov(colours.T))[1]
    return bool(across < _LEAST_COLOUR**2)


def patch_sigma(pixels: np.ndarray) -> float:
    """Standard deviation of the noise as the patches show it, clipping and all.

    Args:
      pixels: (H, W, C) in 0..255.
    """
    pixels = np.asarray(pixels, np.float32)
    height, width = pixels.shape[:2]
    places = max(0, height - _SIDE + 1) * max(0, width - _SIDE + 1)
    if places and pixels.shape[-1] == 3 and _without_colour(pixels):
        pixels = pixels.mean(axis=-1, keepdims=True)
    dimensions = pixels.shape[-1] * _SIDE**2
    if places < _FEWEST_PER_DIMENSION * dimensions:
        raise UserError(
            f"An image of {width}x{height} pixels is too small to estimate its noise; "
            "give the level."
        )
    stride = max(1, int((places / _MOST) ** 0.5))

    def patches(image):
        windows = sliding_window_view(image, (_SIDE, _SIDE), (0, 1))[::stride, ::stride]
        return windows.reshape(-1, dimensions)

    seen = patches(pixels)
    # Where pixels are saturated there is less noise: such patches only count for want of others.
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
    """Sigma, 0 to 100, of the noise that an 8-bit image had before it was clipped and rounded.

    Args:
      pixels: (H, W, C) in 0..255, C = 1 or 3.

    Raises:
      UserError: if the image is too small (colour: about 28x28 pixels).
    """
    return float(np.interp(patch_sigma(pixels), _SEEN, _TRUE))
