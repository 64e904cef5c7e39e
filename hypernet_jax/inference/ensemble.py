"""Self-ensemble: averages a network's results over the symmetric views of an image."""

import itertools
from collections.abc import Callable

import numpy as np

__all__ = ["VIEWS", "ApplyTiles", "mean_of_views"]

# (tiles (N, H, W, C), valid (N, 2)) -> restored tiles; `valid` is the number of valid rows and
# columns at the top left of each tile. With a level per pixel there is a third argument,
# (N, H, W, A).
ApplyTiles = Callable[..., np.ndarray]

# Quarter turns, and whether the image is mirrored first: the symmetries of the square.
VIEWS = tuple(itertools.product(range(4), (False, True)))


def _turned(image: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    return np.rot90(image[:, ::-1] if mirrored else image, turns)


def _turned_back(image: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    image = np.rot90(image, -turns)
    return image[:, ::-1] if mirrored else image


def mean_of_views(apply: ApplyTiles) -> ApplyTiles:
    """Wraps a network so that it returns the mean over eight views of the image.

    Each view is mirrored and rotated, restored, and turned back. A network trained on all views
    makes slightly different errors in each, so the mean has a smaller error, for eight times the
    work (Timofte, Rothe and Van Gool, CVPR 2016).
    """

    def view(tiles: np.ndarray, valid: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
        # Only the valid part is turned, so that it stays at the top left.
        shape = _turned(tiles[0], turns, mirrored).shape
        views = np.zeros((len(tiles), *shape), np.float32)
        for one, tile, (height, width) in zip(views, tiles, valid, strict=True):
            turned = _turned(tile[:height, :width], turns, mirrored)
            one[: turned.shape[0], : turned.shape[1]] = turned
        return views

    def apply_to_views(inputs: np.ndarray, valid: np.ndarray, *levels: np.ndarray) -> np.ndarray:
        total = np.zeros(inputs.shape, np.float32)
        for turns, mirrored in VIEWS:
            views = (view(tiles, valid, turns, mirrored) for tiles in (inputs, *levels))
            image, *own = views
            restored = apply(image, valid[:, ::-1] if turns % 2 else valid, *own)
            for one, result, (height, width) in zip(total, restored, valid, strict=True):
                lengths = (width, height) if turns % 2 else (height, width)
                held = result[: lengths[0], : lengths[1]]
                one[:height, :width] += _turned_back(held, turns, mirrored)
        return total / np.float32(len(VIEWS))

    return apply_to_views
