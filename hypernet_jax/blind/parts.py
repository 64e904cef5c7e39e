"""All parts of a photograph's level, by a small network that was trained on their chain."""

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors.numpy import save

from hypernet_jax.errors import UserError
from hypernet_jax.levels import LevelSpace
from hypernet_jax.networks.parts_network import PartsNetwork
from hypernet_jax.storage import local_copy, storage_path, write_whole
from hypernet_jax.tensors import read_tensors

__all__ = ["PartsEstimator", "load_parts_estimator"]

_FORMAT = "hypernet_jax/parts_network/1"
# Side of the crops, and how many along each axis of a photograph.
_SIDE, _CROPS = 96, 6


@dataclasses.dataclass(frozen=True)
class PartsEstimator:
    """Estimates the parts of an image's level.

    Attributes:
      names: of the parts.
      network: the network.
      params: its parameters.
    """

    names: tuple[str, ...]
    network: PartsNetwork
    params: dict[str, Any]

    @functools.cached_property
    def _apply(self):
        return jax.jit(lambda params, crops: self.network.apply({"params": params}, crops))

    def estimate(self, pixels: np.ndarray, space: LevelSpace) -> dict[str, float]:
        """The parts, by name, each within the range of its axis.

        Args:
          pixels: (H, W, C) in 0..255, C = 3 or 1.
          space: of the level; it has the axes that the network was trained for.

        Crops spread over the image say what they see and how sure they are of it; their mean,
        weighted by that, is the estimate.
        """
        if space.names != self.names:
            raise UserError(
                f"The estimator is for levels of {', '.join(self.names)}, not of "
                f"{', '.join(space.names)}."
            )
        z, deviation = map(np.asarray, self._apply(self.params, crops_of(pixels)))
        weights = np.exp(-2.0 * deviation)
        means = np.sum(weights * z, axis=0) / np.sum(weights, axis=0)
        return {
            axis.name: _level_of(axis, float(mean))
            for axis, mean in zip(space.axes, means, strict=True)
        }

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes a safetensors file that `load_parts_estimator` reads."""
        flat = traverse_util.flatten_dict(jax.tree.map(np.asarray, self.params), sep="/")
        model = {
            "names": list(self.names),
            "channels": list(self.network.channels),
            "hidden": self.network.hidden,
        }
        metadata = {"format": _FORMAT, "model": json.dumps(model, sort_keys=True)}
        write_whole(path, save(flat, metadata=metadata), overwrite=overwrite)


def crops_of(pixels: np.ndarray) -> np.ndarray:
    """Crops of an image (H, W, C) in 0..255, spread over it, as float32 (N, side, side, 3).

    They begin at multiples of 8. An image that is smaller is continued symmetrically.
    """
    pixels = np.asarray(pixels, np.float32) / np.float32(255.0)
    if pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, axis=-1)
    pads = [(0, max(0, _SIDE - length)) for length in pixels.shape[:2]]
    pixels = np.pad(pixels, (*pads, (0, 0)), mode="symmetric")
    starts = [
        np.unique(np.linspace(0, length - _SIDE, _CROPS).astype(int) // 8 * 8)
        for length in pixels.shape[:2]
    ]
    return np.stack([pixels[y : y + _SIDE, x : x + _SIDE] for y in starts[0] for x in starts[1]])


def _level_of(axis, z: float) -> float:
    """The value of an axis whose z this is; the nearest of the range."""
    values = np.linspace(axis.low, axis.high, 2001)
    found = np.asarray(axis.normalise(values))
    order = np.argsort(found, kind="stable")
    return float(np.interp(z, found[order], values[order]))


def load_parts_estimator(path: str | Path) -> PartsEstimator:
    """Reads what `PartsEstimator.save` wrote.

    Raises:
      UserError: if there is no such file, or it is not ours or damaged.
    """
    path = storage_path(path)
    if not path.is_file():
        raise UserError(f"There is no level estimator {path}; check the path.")
    with local_copy(path) as file:
        flat, metadata = read_tensors(file, form=_FORMAT, called="file", holds="level estimator")
    try:
        model = json.loads(metadata["model"])
        names = tuple(map(str, model["names"]))
        network = PartsNetwork(len(names), tuple(model["channels"]), int(model["hidden"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"The file {path} does not say what its network is ({error}).") from None
    params = traverse_util.unflatten_dict(flat, sep="/")
    image = jax.ShapeDtypeStruct((1, _SIDE, _SIDE, 3), jnp.float32)
    expected = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    if jax.tree.map(jnp.shape, params) != jax.tree.map(lambda leaf: leaf.shape, expected):
        raise UserError(f"The weights in {path} do not fit the network that the file names.")
    return PartsEstimator(names, network, params)
