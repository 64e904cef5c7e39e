"""A level for every pixel: which kernel banks, and which weights of them at each pixel.

The kernels of a pixel are the bank's, weighted by the features phi of its level. Where all levels
of a map lie on a line in phi, as those of a mask do, two kernels are enough whatever the number of
features: that of one end, and what leads from there to the other.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from hypernet_jax.features import Affine
from hypernet_jax.hypernet import Theta
from hypernet_jax.inference.backends import Backend
from hypernet_jax.inference.ensemble import ApplyTiles
from hypernet_jax.model import Model

__all__ = ["MapNetworks"]

# How far from the line a level may be, in z.
_ON_LINE = 1e-3
# Rows of a map that are looked at together.
_ROWS = 256

# Lines whose kernels are kept.
_KEPT = 4

_Weights = Callable[[np.ndarray], np.ndarray]


class MapNetworks:
    """What restores tiles whose pixels have levels of their own.

    Args:
      model, theta: whose network.
      backend: computes it.
    """

    def __init__(self, model: Model, theta: Theta, backend: Backend):
        self._model, self._theta, self._backend = model, theta, backend
        self._phi = jax.jit(functools.partial(model.hypernet.phi, theta["features"]))
        self._along = jax.jit(functools.partial(_along, model))
        at = np.asarray(self._phi(model.hypernet.levels_of_fit()))
        self.features = at.shape[-1]
        self._has_constant = bool((at[:, 0] == 1).all())
        self._general = functools.cache(self._prepared)
        self._between = functools.lru_cache(_KEPT)(self._prepared_between)

    def network(self, levels: np.ndarray) -> ApplyTiles:
        """(tiles, valid, levels of their pixels (N, H, W, A)) -> restored tiles, for this map.

        Args:
          levels: of all pixels, (H, W, A) in native units.

        Raises:
          UserError: if the network's pixels cannot have levels of their own.
        """
        weights, apply = self._general()
        ends = self._line(levels) if self.features > 2 else None
        if ends is not None:
            weights, apply = self._between(*(tuple(end.tolist()) for end in ends))

        def network(inputs: np.ndarray, valid: np.ndarray, levels: np.ndarray) -> np.ndarray:
            return apply(inputs, valid, weights(levels))

        return network

    def _prepared(self) -> tuple[_Weights, ApplyTiles]:
        first = 1 if self._has_constant else 0
        banks = self._theta["generated"]
        apply = self._backend.prepare_map(banks, has_constant=self._has_constant)
        return lambda levels: np.asarray(self._phi(levels))[..., first:], apply

    def _prepared_between(
        self, start: tuple[float, ...], end: tuple[float, ...]
    ) -> tuple[_Weights, ApplyTiles]:
        """For levels on the line between two."""
        first, last = (np.asarray(level, np.float32) for level in (start, end))
        ends = [self._phi(level) for level in (first, last)]
        mixed = jnp.stack([ends[0], ends[1] - ends[0]])
        banks = {
            path: jnp.tensordot(mixed, bank, axes=1)
            for path, bank in self._theta["generated"].items()
        }
        apply = self._backend.prepare_map(banks, has_constant=True)
        return lambda levels: np.asarray(self._along(levels, first, last)), apply

    def _line(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """The levels at both ends, if all of the map lie on the line between them in z."""
        if not isinstance(self._model.hypernet.features, Affine):
            return None  # phi is not linear in z
        space = self._model.hypernet.space
        rows = [levels[start : start + _ROWS] for start in range(0, len(levels), _ROWS)]
        z = [np.asarray(space.normalise(part)) for part in rows]
        low, high = (
            getattr(np, kind)([getattr(part, kind)(axis=(0, 1)) for part in z], axis=0)
            for kind in ("min", "max")
        )
        # Along the part that varies most the ends are the smallest and the largest.
        axis = int(np.argmax(high - low))
        ends = []
        for value in (low[axis], high[axis]):
            index = next(i for i, part in enumerate(z) if (part[..., axis] == value).any())
            at = np.argmax((z[index][..., axis] == value).ravel())
            ends.append(rows[index].reshape((-1, levels.shape[-1]))[at])
        start, end = ends
        way = np.asarray(space.normalise(end)) - np.asarray(space.normalise(start))
        for part, own in zip(z, rows, strict=True):
            shares = np.asarray(self._along(own, start, end))
            if np.abs(np.asarray(space.normalise(start)) + shares * way - part).max() > _ON_LINE:
                return None
        return start, end


def _along(model: Model, levels: jax.Array, start: jax.Array, end: jax.Array) -> jax.Array:
    """How far from one level to another these are in z, (..., 1): 0 to 1 for those between."""
    z, first, last = (model.hypernet.space.normalise(each) for each in (levels, start, end))
    way = last - first
    length = jnp.maximum(jnp.sum(way * way), 1e-12)
    return jnp.sum((z - first) * way, axis=-1, keepdims=True) / length
