"""Self-ensemble: averages a network's results over the symmetric views of an image."""

from collections.abc import Callable

import numpy as np

from hypernet_jax.symmetries import VIEWS, View, seen_from, turned_back

__all__ = ["ApplyTiles", "mean_of_views"]

# (tiles (N, H, W, C), valid (N, 2)) -> restored tiles; `valid` is the number of valid rows and
# columns at the top left of each tile. With a level per pixel there is a third argument,
# (N, H, W, A).
ApplyTiles = Callable[..., np.ndarray]


def mean_of_views(apply: ApplyTiles) -> ApplyTiles:
    """Wraps a network so that it returns the mean over eight views of the image.

    Each view is restored and turned back. A network trained on all views makes slightly different
    errors in each, so the mean has a smaller error, for eight times the work (Timofte, Rothe and
    Van Gool, CVPR 2016).
    """

    def views_of(tiles: np.ndarray, valid: np.ndarray, view: View) -> np.ndarray:
        # Only the valid part is turned, so that it stays at the top left.
        views = np.zeros((len(tiles), *seen_from(view, tiles[0]).shape), np.float32)
        for one, tile, (height, width) in zip(views, tiles, valid, strict=True):
            turned = seen_from(view, tile[:height, :width])
            one[: turned.shape[0], : turned.shape[1]] = turned
        return views

    def apply_to_views(inputs: np.ndarray, valid: np.ndarray, *levels: np.ndarray) -> np.ndarray:
        total = np.zeros(inputs.shape, np.float32)
        for view in VIEWS:
            image, *own = (views_of(tiles, valid, view) for tiles in (inputs, *levels))
            lengths = valid[:, ::-1] if view.transposed else valid
            restored = apply(image, lengths, *own)
            for one, result, (height, width) in zip(total, restored, lengths, strict=True):
                held = turned_back(view, result[:height, :width])
                one[: held.shape[0], : held.shape[1]] += held
        return total / np.float32(len(VIEWS))

    return apply_to_views
