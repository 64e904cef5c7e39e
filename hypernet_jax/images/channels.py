"""Conversion between grey and colour."""

import numpy as np
from jaxtyping import UInt8
from PIL import Image

__all__ = ["LUMA", "luminance", "to_colours"]

# Weights of red, green and blue in luminance (BT.601).
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def luminance(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 1"]:
    """Luminance (BT.601), 0 to 255: uint8 (H, W, 3) -> (H, W, 1)."""
    return np.asarray(Image.fromarray(image).convert("L"))[..., None]


def to_colours(image: UInt8[np.ndarray, "h w c"], colours: int) -> UInt8[np.ndarray, "h w colours"]:
    """Converts (H, W, C) to grey (its luminance) or RGB; uint8."""
    if image.shape[-1] == colours:
        return image
    if colours == 1:
        return luminance(image)
    return np.repeat(image, 3, axis=-1)
