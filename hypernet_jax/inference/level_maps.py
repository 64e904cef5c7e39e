"""A level for every pixel: the kernel banks, and their weights at each pixel.

A pixel's kernels are the bank weighted by the features phi of its level. If all levels of a map
lie on a line in phi, as those of a mask do, two kernels are enough whatever the number of
features: that of one end of the line, and the difference to the other end.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hypernet_jax.features import Affine
from hypernet_jax.hypernet import HyperNetwork, Theta
from hypernet_jax.inference.backends import Backend
from hypernet_jax.inference.ensemble import ApplyTiles
from hypernet_jax.levels import LevelSpace
from hypernet_jax.model import Model
from hypernet_jax.programs import compiled

__all__ = ["MapNetworks"]

# The largest distance of a level from the line, in z.
_ON_LINE = 1e-3
# Levels to process at once, so that one program serves maps of all sizes.
_BLOCK = 65_536

# Lines whose kernels are cached.
_KEPT = 4

_Weights = Callable[[np.ndarray], np.ndarray]


class MapNetworks:
    """Networks for tiles with a level per pixel.

    Args:
      model, theta: the model and its parameters.
      backend: computes the networks.
    """

    def __init__(self, model: Model, theta: Theta, backend: Backend):
        self._model, self._theta, self._backend = model, theta, backend
        phi = compiled(HyperNetwork.phi, model.hypernet)
        self._phi = functools.partial(phi, theta["features"])
        self._along = compiled(_along, model.hypernet.space)
        self._normalise = compiled(LevelSpace.normalise, model.hypernet.space)
        at = np.asarray(self._phi(model.hypernet.levels_of_fit()))
        self.features = at.shape[-1]
        self._has_constant = bool((at[:, 0] == 1).all())
        self._general = functools.cache(self._prepared)
        self._between = functools.lru_cache(_KEPT)(self._prepared_between)

    def network(self, levels: np.ndarray) -> ApplyTiles:
        """The network for a map: (tiles, valid, levels (N, H, W, A)) -> restored tiles.

        Args:
          levels: the whole map, (H, W, A) in native units.

        Raises:
          UserError: if the network does not support a level per pixel.
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
        """The network for levels on the line between two."""
        first, last = (np.asarray(level, np.float32) for level in (start, end))
        ends = [self._phi(level) for level in (first, last)]
        mixed = jnp.stack([ends[0], ends[1] - ends[0]])
        banks = {
            path: jnp.tensordot(mixed, bank, axes=1, precision=jax.lax.Precision.HIGHEST)
            for path, bank in self._theta["generated"].items()
        }
        apply = self._backend.prepare_map(banks, has_constant=True)
        return lambda levels: np.asarray(self._along(levels, first, last)), apply

    def _line(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """The levels at both ends, if all levels of the map lie on a line between them in z."""
        if not isinstance(self._model.hypernet.features, Affine):
            return None  # phi is not linear in z
        ends = self._ends(levels)
        first, last = (self._z(end[None])[0] for end in ends)
        for block in _blocks(levels):
            shares = _padded(lambda block: self._along(block, *ends), block)
            if np.abs(first + shares * (last - first) - self._z(block)).max() > _ON_LINE:
                return None
        return ends

    def _ends(self, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The levels with the smallest and the largest value of the part that varies most."""
        extremes: dict[tuple[str, int], tuple[float, np.ndarray]] = {}
        for block in _blocks(levels):
            for axis, z in enumerate(self._z(block).T):
                for kind, at in (("low", int(z.argmin())), ("high", int(z.argmax()))):
                    held = extremes.get((kind, axis))
                    if held is None or (z[at] < held[0] if kind == "low" else z[at] > held[0]):
                        extremes[kind, axis] = float(z[at]), block[at].copy()
        axis = max(
            range(levels.shape[-1]), key=lambda n: extremes["high", n][0] - extremes["low", n][0]
        )
        return extremes["low", axis][1], extremes["high", axis][1]

    def _z(self, levels: np.ndarray) -> np.ndarray:
        return _padded(self._normalise, levels)


def _blocks(levels: np.ndarray) -> Iterator[np.ndarray]:
    """The levels of a map, (P, A) each, P up to the size of a block."""
    flat = levels.reshape((-1, levels.shape[-1]))
    for start in range(0, len(flat), _BLOCK):
        yield flat[start : start + _BLOCK]


def _padded(function: Callable[[np.ndarray], Any], block: np.ndarray) -> np.ndarray:
    """function(levels) for levels (P, A), computed for those of a whole block."""
    given = np.pad(block, ((0, _BLOCK - len(block)), (0, 0)), mode="edge")
    return np.asarray(function(given))[: len(block)]


def _along(space: LevelSpace, levels: jax.Array, start: jax.Array, end: jax.Array) -> jax.Array:
    """The position of levels along the line from `start` to `end` in z, 0 to 1; (..., 1)."""
    z, first, last = (space.normalise(each) for each in (levels, start, end))
    way = last - first
    length = jnp.maximum(jnp.sum(way * way), 1e-12)
    return jnp.sum((z - first) * way, axis=-1, keepdims=True) / length
