"""Turning pictures upright: what the EXIF orientation asks for."""

import numpy as np

__all__ = ["ORIENTATIONS", "swaps_sides", "upright"]

ORIENTATIONS = range(1, 9)
# How each is undone: swap rows and columns, then flip rows, flip columns.
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
    """Whether height and width change places."""
    return _STEPS.get(orientation, (False,))[0]


def upright(samples: np.ndarray, orientation: int) -> np.ndarray:
    """A view of (H, W, C) as the orientation, 1 to 8, says that it is to be shown."""
    swap, flip_rows, flip_columns = _STEPS.get(orientation, (False, False, False))
    if swap:
        samples = samples.swapaxes(0, 1)
    return samples[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
