"""A small network that estimates all parts of a photograph's level from image statistics."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from jaxtyping import Float, Real
from safetensors.numpy import save

from hypernet_jax.blind.statistics import statistics
from hypernet_jax.errors import UserError
from hypernet_jax.levels import LevelSpace
from hypernet_jax.storage import local_copy, storage_path, write_whole
from hypernet_jax.tensors import read_tensors

__all__ = ["SIDE", "TILES", "PartsEstimator", "apply_layers", "load_parts_estimator"]

_FORMAT = "hypernet_jax/parts/1"
# Side of a tile, and the largest number of tiles along each axis.
SIDE, TILES = 192, 4


def apply_layers(layers, x):
    """Maps normalised statistics (..., F) to z of each part (..., A); NumPy or JAX arrays.

    Args:
      layers: (kernel, bias) pairs, with ReLUs in between.
      x: statistics, normalised by their mean and standard deviation.
    """
    *inner, (kernel, bias) = layers
    for inner_kernel, inner_bias in inner:
        x = x @ inner_kernel + inner_bias
        x = x * (x > 0)
    return x @ kernel + bias


@dataclasses.dataclass(frozen=True, eq=False)
class PartsEstimator:
    """Estimates the parts of an image's level.

    Attributes:
      names: names of the parts.
      mean, deviation: mean and standard deviation of the training statistics, (F,).
      layers: (kernel, bias) of each layer.
    """

    names: tuple[str, ...]
    mean: Float[np.ndarray, " f"]
    deviation: Float[np.ndarray, " f"]
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def estimate(self, pixels: Real[np.ndarray, "h w c"], space: LevelSpace) -> dict[str, float]:
        """The parts by name, each within the range of its axis.

        Args:
          pixels: (H, W, C) in 0..255, C = 3 or 1.
          space: the level space that the network was trained for.

        Takes the median over tiles spread over the image.
        """
        if space.names != self.names:
            raise UserError(
                f"The estimator is for levels with the parts {', '.join(self.names)}, not "
                f"{', '.join(space.names)}; choose another."
            )
        seen = np.stack([statistics(tile) for tile in _tiles(np.asarray(pixels, np.float32))])
        z = np.median(apply_layers(self.layers, (seen - self.mean) / self.deviation), axis=0)
        return {
            axis.name: axis.value_at(float(value))
            for axis, value in zip(space.axes, z, strict=True)
        }

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes a safetensors file that `load_parts_estimator` reads."""
        flat = {"mean": self.mean, "deviation": self.deviation}
        for number, (kernel, bias) in enumerate(self.layers):
            flat |= {f"kernel_{number}": kernel, f"bias_{number}": bias}
        arrays = {name: np.asarray(value, np.float32) for name, value in flat.items()}
        metadata = {"format": _FORMAT, "names": json.dumps(self.names)}
        write_whole(path, save(arrays, metadata=metadata), overwrite=overwrite)


def _tiles(pixels: np.ndarray) -> list[np.ndarray]:
    """Tiles spread over an image; they begin at multiples of 16."""
    starts = [
        np.unique(np.linspace(0, max(0, length - SIDE), TILES).astype(int) // 16 * 16)
        for length in pixels.shape[:2]
    ]
    return [pixels[y : y + SIDE, x : x + SIDE] for y in starts[0] for x in starts[1]]


def load_parts_estimator(path: str | Path) -> PartsEstimator:
    """Reads a file written by `PartsEstimator.save`.

    Raises:
      UserError: if there is no such file, or it is damaged or in another format.
    """
    found = storage_path(path)
    if not found.is_file():
        raise UserError(f"There is no level estimator {path}; check the path.")
    with local_copy(found) as file:
        flat, metadata = read_tensors(file, form=_FORMAT, called="file", holds="level estimator")
    try:
        arrays = {name: np.asarray(value) for name, value in flat.items()}
        names = tuple(map(str, json.loads(metadata["names"])))
        count = sum(name.startswith("kernel_") for name in arrays)
        layers = tuple((arrays[f"kernel_{n}"], arrays[f"bias_{n}"]) for n in range(count))
        apply_layers(layers, (arrays["mean"] - arrays["mean"]) / arrays["deviation"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"The file {path} does not describe its network ({error}).") from None
    return PartsEstimator(names, arrays["mean"], arrays["deviation"], layers)
