"""Self-ensemble: the mean of what a network makes of the symmetric views of an image."""

import itertools
from collections.abc import Callable

import numpy as np

__all__ = ["VIEWS", "ApplyTiles", "mean_of_views"]

# (tiles (N, H, W, C), valid (N, 2)) -> restored tiles; of each tile only its first rows and
# columns count, as many as valid says. Where pixels have levels of their own, a third argument
# gives them, (N, H, W, A).
ApplyTiles = Callable[..., np.ndarray]

# Quarter turns, and whether the image is mirrored before them: the symmetries of the square.
VIEWS = tuple(itertools.product(range(4), (False, True)))


def _turned(image: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    return np.rot90(image[:, ::-1] if mirrored else image, turns)


def _turned_back(image: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
    image = np.rot90(image, -turns)
    return image[:, ::-1] if mirrored else image


def mean_of_views(apply: ApplyTiles) -> ApplyTiles:
    """Makes of a network the mean over its eight views.

    The image is turned and mirrored, restored, and turned back. A network that was trained on
    views of all kinds errs a little differently in each, so the mean errs less, for eight times
    the work (Timofte, Rothe and Van Gool, CVPR 2016).
    """

    def view(tiles: np.ndarray, valid: np.ndarray, turns: int, mirrored: bool) -> np.ndarray:
        # Only what is valid is turned, so that it begins at the top left again.
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
