"""Crops as training sees them: a random place, a random view, and other colours."""

import numpy as np
from scipy.ndimage import gaussian_filter

from hypernet_jax.images.channels import LUMA, luminance

__all__ = ["change_colours", "random_crop", "random_view", "soften", "without_colour"]

# Spreads of the logarithms of what colours are changed by: in a photograph of another camera,
# light or taste.
_SATURATION, _GAIN, _EXPOSURE, _GAMMA = 0.4, 0.12, 0.25, 0.2
# Least and greatest sigma, in pixels, of the softness of photographs at a camera's own resolution.
_SOFTNESS = (0.3, 1.5)


def random_crop(rng: np.random.Generator, image: np.ndarray, size: int) -> np.ndarray:
    """A square of this side from anywhere in (H, W, C), no smaller than it."""
    top = rng.integers(image.shape[0] - size + 1)
    left = rng.integers(image.shape[1] - size + 1)
    return image[top : top + size, left : left + size]


def random_view(rng: np.random.Generator, crop: np.ndarray) -> np.ndarray:
    """One of the eight symmetries of the square."""
    if rng.random() < 0.5:
        crop = crop[::-1]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    if rng.random() < 0.5:
        crop = crop.transpose(1, 0, 2)
    return np.ascontiguousarray(crop)


def change_colours(rng: np.random.Generator, crop: np.ndarray) -> np.ndarray:
    """The crop with its channels permuted and other saturation, white balance, exposure and gamma.

    Args:
      rng: generator.
      crop: uint8 (H, W, 3).

    Returns:
      uint8 (H, W, 3). Grey stays nearly grey: white balance is all that gives it a colour.
    """
    saturation = np.exp(rng.normal(0.0, _SATURATION))
    gains = np.exp(rng.normal(0.0, _GAIN, 3) + rng.normal(0.0, _EXPOSURE))
    gamma = np.exp(rng.normal(0.0, _GAMMA))
    colours = crop[..., rng.permutation(3)].astype(np.float32) / 255.0
    luma = (colours @ LUMA)[..., None]
    colours = np.clip(luma + saturation * (colours - luma), 0.0, 1.0)
    # What is exposed beyond white would lose its detail: as bright as it may get.
    brightest = float(np.max(colours * gains)) ** gamma
    colours = (colours * gains) ** gamma / max(1.0, brightest)
    return np.round(255.0 * colours).astype(np.uint8)


def soften(rng: np.random.Generator, crop: np.ndarray) -> np.ndarray:
    """The crop as soft as photographs are at a camera's own resolution.

    Lenses, filters before the sensor and demosaicing leave little detail of a pixel's size;
    photographs that were reduced, as those of training are, have all of it.

    Args:
      rng: generator.
      crop: uint8 (H, W, C).
    """
    sigma = rng.uniform(*_SOFTNESS)
    return gaussian_filter(crop.astype(np.float32), (sigma, sigma, 0)).round().astype(np.uint8)


def without_colour(crop: np.ndarray) -> np.ndarray:
    """The luminance in each of three channels."""
    return np.repeat(luminance(crop), 3, axis=-1)
