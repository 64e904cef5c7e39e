"""Tiling as in darktable."""

import numpy as np

from hypernet_jax.interchange.darktable import OVERLAP


def tiled(run, image, sigma, side):
    """Runs a network in overlapping tiles with mirrored borders, like darktable."""
    height, width = image.shape[:2]
    step = side - 2 * OVERLAP
    ends = [(OVERLAP, -length % step + OVERLAP) for length in (height, width)]
    padded = np.pad(image, (*ends, (0, 0)), mode="symmetric")
    result = np.zeros_like(padded)
    for top in range(0, padded.shape[0] - 2 * OVERLAP, step):
        for left in range(0, padded.shape[1] - 2 * OVERLAP, step):
            tile = padded[top : top + side, left : left + side]
            inside = np.s_[OVERLAP:-OVERLAP, OVERLAP:-OVERLAP]
            result[top : top + side, left : left + side][inside] = run(tile, sigma)[inside]
    return result[OVERLAP : OVERLAP + height, OVERLAP : OVERLAP + width]
