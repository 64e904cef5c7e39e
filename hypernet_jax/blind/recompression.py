"""The quality of a JPEG of which only the pixels are left.

An image that was compressed at some quality hardly changes when it is compressed at
that quality again, but does at the qualities beside it (Farid, "Exposing digital
forgeries from JPEG ghosts", TIFS 2009).
"""

import numpy as np

from hypernet_jax.degradations import jpeg

__all__ = ["quality_of_pixels"]

# The corner that is looked at: the grid of blocks starts there.
_SIDE = 256
# How much deeper than its neighbours, in the logarithm of the mean squared change, the
# dip must be. Photographs that were never compressed show up to 0.12, compressed
# ones 0.8 and more.
_SHALLOWEST = 0.4
# Rounding alone changes pixels by about this mean square.
_FLOOR = 0.05


def quality_of_pixels(pixels: np.ndarray) -> float | None:
    """Finds the quality by which an image was compressed last.

    Args:
      pixels: (H, W, C) in 0..255, not cropped or resized since.

    Returns:
      The quality, 1 to 100, or None if the image shows no trace of compression.
    """
    corner = np.clip(np.round(pixels[:_SIDE, :_SIDE]), 0, 255).astype(np.uint8)
    # Whole blocks of subsampled chrominance.
    height, width = (size // 16 * 16 for size in corner.shape[:2])
    corner = corner[:height, :width]
    if not corner.size:
        return None
    changes = [
        np.mean(np.square(corner.astype(np.float32) - jpeg(None, corner, quality)))
        for quality in range(1, 101)
    ]
    depth = np.log(np.asarray(changes) + _FLOOR)
    padded = np.pad(depth, 3, mode="edge")
    around = np.median([padded[k : k + 100] for k in (0, 1, 2, 4, 5, 6)], axis=0)
    dips = around - depth
    best = int(np.argmax(dips))
    return float(best + 1) if dips[best] >= _SHALLOWEST else None
