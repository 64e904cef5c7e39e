"""The eight symmetries of the square, for images as NumPy or JAX arrays."""

import itertools
from typing import NamedTuple

__all__ = ["VIEWS", "View", "seen_from", "turned_back"]


class View(NamedTuple):
    """A symmetry: first the mirrored axes, then the transposition."""

    mirrored_rows: bool
    mirrored_columns: bool
    transposed: bool


VIEWS = tuple(itertools.starmap(View, itertools.product((False, True), repeat=3)))


def seen_from(view: View, images):
    """Images (..., H, W, C) in a view: (..., W, H, C) if it is transposed, else (..., H, W, C)."""
    mirrored = _mirrored(view, images)
    return mirrored.swapaxes(-3, -2) if view.transposed else mirrored


def turned_back(view: View, images):
    """What `seen_from` made the images of."""
    return _mirrored(view, images.swapaxes(-3, -2) if view.transposed else images)


def _mirrored(view: View, images):
    if view.mirrored_rows:
        images = images[..., ::-1, :, :]
    if view.mirrored_columns:
        images = images[..., ::-1, :]
    return images
