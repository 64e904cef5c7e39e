"""Turns pictures upright according to their EXIF orientation."""

import numpy as np

__all__ = ["ORIENTATIONS", "swaps_sides", "upright"]

ORIENTATIONS = range(1, 9)
# Steps that undo each orientation: swap rows and columns, flip rows, flip columns.
_STEPS = {
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}


def swaps_sides(orientation: int) -> bool:
    """Whether undoing the orientation swaps height and width."""
    return _STEPS.get(orientation, (False,))[0]


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """An upright view of samples (H, W, C) stored with this orientation, 1 to 8."""
    swap, flip_rows, flip_columns = _STEPS.get(orientation, (False, False, False))
    if swap:
        samples = samples.swapaxes(0, 1)
    return samples[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
