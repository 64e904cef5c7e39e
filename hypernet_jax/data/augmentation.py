"""Augmentation of training crops: random position, view, colours, light and softness."""

import numpy as np
from jaxtyping import Shaped, UInt8
from scipy.ndimage import gaussian_filter

from hypernet_jax.images.channels import LUMA, luminance
from hypernet_jax.symmetries import View, seen_from

__all__ = ["change_colours", "darken", "random_crop", "random_view", "soften", "without_colour"]

# Standard deviations, in the logarithm, of the colour changes: they imitate other cameras, light
# and processing.
_SATURATION, _GAIN, _EXPOSURE, _GAMMA = 0.4, 0.12, 0.25, 0.2
# Range of the light left in dark scenes, uniform in the logarithm.
_LIGHT = (0.06, 0.6)
# Range of sigma, in pixels, of the blur of photographs at a camera's native resolution.
_SOFTNESS = (0.3, 1.5)


def random_crop(
    rng: np.random.Generator, image: Shaped[np.ndarray, "h w c"], size: int
) -> Shaped[np.ndarray, "size size c"]:
    """A square crop of side `size` from a random position in (H, W, C)."""
    top = rng.integers(image.shape[0] - size + 1)
    left = rng.integers(image.shape[1] - size + 1)
    return image[top : top + size, left : left + size]


def random_view(
    rng: np.random.Generator, crop: Shaped[np.ndarray, "h w c"]
) -> Shaped[np.ndarray, "h2 w2 c"]:
    """The crop under a random one of the eight symmetries of the square."""
    view = View(*(bool(rng.random() < 0.5) for _ in View._fields))
    return np.ascontiguousarray(seen_from(view, crop))


def change_colours(
    rng: np.random.Generator, crop: UInt8[np.ndarray, "h w 3"]
) -> UInt8[np.ndarray, "h w 3"]:
    """Permutes channels and changes saturation, white balance, exposure and gamma at random.

    Args:
      rng: generator.
      crop: uint8 (H, W, 3).

    Returns:
      uint8 (H, W, 3). Grey stays nearly grey: only the white balance colours it.
    """
    saturation = np.exp(rng.normal(0.0, _SATURATION))
    gains = np.exp(rng.normal(0.0, _GAIN, 3) + rng.normal(0.0, _EXPOSURE))
    gamma = np.exp(rng.normal(0.0, _GAMMA))
    colours = crop[..., rng.permutation(3)].astype(np.float32) / 255.0
    luma = (colours @ LUMA)[..., None]
    colours = np.clip(luma + saturation * (colours - luma), 0.0, 1.0)
    # Limits the exposure so that no detail is clipped at white.
    brightest = float(np.max(colours * gains)) ** gamma
    colours = (colours * gains) ** gamma / max(1.0, brightest)
    return np.round(255.0 * colours).astype(np.uint8)


def darken(
    rng: np.random.Generator, crop: UInt8[np.ndarray, "h w c"]
) -> UInt8[np.ndarray, "h w c"]:
    """Scales the crop to the light of a dark scene, 6 % to 60 % of what it was.

    Without such crops a network learns little about noise that is clipped at black.

    Args:
      rng: generator.
      crop: uint8 (H, W, C).
    """
    light = np.exp(rng.uniform(*np.log(_LIGHT)))
    return np.round(light * crop).astype(np.uint8)


def soften(
    rng: np.random.Generator, crop: UInt8[np.ndarray, "h w c"]
) -> UInt8[np.ndarray, "h w c"]:
    """Blurs the crop to the softness of photographs at a camera's native resolution.

    Lenses, anti-aliasing filters and demosaicing leave little pixel-sized detail, while the
    downscaled photographs used for training have all of it.

    Args:
      rng: generator.
      crop: uint8 (H, W, C).
    """
    sigma = rng.uniform(*_SOFTNESS)
    return gaussian_filter(crop.astype(np.float32), (sigma, sigma, 0)).round().astype(np.uint8)


def without_colour(crop: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The luminance, repeated in three channels."""
    return np.repeat(luminance(crop), 3, axis=-1)
