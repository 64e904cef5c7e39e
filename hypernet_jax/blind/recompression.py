"""The quality of a JPEG image, from its pixels alone.

An image compressed at some quality hardly changes when compressed again at that
quality, but does change at neighbouring qualities (Farid, "Exposing digital
forgeries from JPEG ghosts", TIFS 2009).
"""

import numpy as np

from hypernet_jax.degradations import jpeg

__all__ = ["quality_of_pixels"]

# Side of the top left corner to analyse; the grid of blocks starts there.
_SIDE = 256
# Smallest depth of the dip below its neighbours, in the logarithm of the mean squared
# change. Photographs that were never compressed have dips of up to 0.12, compressed
# ones of 0.8 or more.
_SHALLOWEST = 0.4
# Approximate mean squared change from rounding alone.
_FLOOR = 0.05


def quality_of_pixels(pixels: np.ndarray) -> float | None:
    """Finds the quality at which an image was last compressed.

    Args:
      pixels: (H, W, C) in 0..255, not cropped or resized since then.

    Returns:
      The quality, 1 to 100, or None if there is no trace of compression.
    """
    corner = np.clip(np.round(pixels[:_SIDE, :_SIDE]), 0, 255).astype(np.uint8)
    # Crops to whole blocks of subsampled chrominance.
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
