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

__all__ = [
    "ESTIMATE_SIDE",
    "LARGEST",
    "SIDE",
    "TILES",
    "PartsEstimator",
    "apply_layers",
    "beyond_natural",
    "cell_weights",
    "load_parts_estimator",
    "quantile_of",
    "weighted_mean",
    "weighted_quantile",
]

_FORMAT = "hypernet_jax/parts/2"
# Side, in pixels, of the area in the middle of an image from which the level is estimated.
ESTIMATE_SIDE = 2048
# Side of a tile, and the largest number of tiles along each axis.
SIDE, TILES = 192, 4
# Weights of cells lie between two to the power of minus this and of this, so that a few cells that
# are wrong but sure of themselves cannot decide alone.
LARGEST = 3.0
# Sigma, in pixels, up to which blur is natural, and from which on it is not.
NATURAL_BLUR = (1.2, 1.5)


def apply_layers(layers, cells):
    """Opinions of cells on the level; NumPy or JAX arrays.

    Args:
      layers: (kernel, bias) of four layers with leaky ReLUs in between. The second sees 3x3 cells;
        the others see one.
      cells: (..., rows, columns, F), normalised statistics.

    Returns:
      (..., rows - 2, columns - 2, 2 A): an estimate of each part, then the weights' logarithms.
    """
    (first, first_bias), (around, around_bias), *last = layers
    x = _leaky(cells @ first + first_bias)
    rows, columns = x.shape[-3] - 2, x.shape[-2] - 2
    x = _leaky(
        sum(
            x[..., i : i + rows, j : j + columns, :] @ around[i, j]
            for i in range(3)
            for j in range(3)
        )
        + around_bias
    )
    (kernel, bias), (last_kernel, last_bias) = last
    return _leaky(x @ kernel + bias) @ last_kernel + last_bias


def _leaky(x):
    return x * (0.1 + 0.9 * (x > 0))


def cell_weights(opinions):
    """How much each cell's estimates count.

    Args:
      opinions: (..., cells, 2 A), as `apply_layers` returns them; NumPy or JAX arrays.

    Returns:
      (..., cells, A), positive.
    """
    logarithms = opinions[..., opinions.shape[-1] // 2 :]
    # Powers of two, because NumPy and JAX share no function exp.
    return 2.0 ** (logarithms / (1.0 + abs(logarithms) / LARGEST))


def weighted_mean(opinions):
    """The mean of the cells' estimates by their weights.

    Args:
      opinions: (..., cells, 2 A), as `apply_layers` returns them; NumPy or JAX arrays.

    Returns:
      (..., A): log(1 + gain z) of each part.
    """
    weights = cell_weights(opinions)
    estimates = opinions[..., : opinions.shape[-1] // 2]
    return (weights * estimates).sum(axis=-2) / weights.sum(axis=-2)


def weighted_quantile(
    values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"], quantile: float
) -> float:
    """A quantile of values that count by their weights.

    Each sorted value lies in the middle of its weight; in between, the quantile is linear.
    """
    order = np.argsort(values)
    ends = np.cumsum(weights[order]) / weights.sum()
    middles = ends - weights[order] / weights.sum() / 2
    return float(np.interp(quantile, middles, values[order]))


def quantile_of(part: str) -> float:
    """The quantile of the tiles' estimates that counts for a part of the level."""
    return 0.5 if part == "jpeg" else 0.25


def beyond_natural(part: str, values):
    """What a restoration is to remove of the degradation that is found.

    Cameras' own pictures are soft, so a blur up to a sigma of 1.2 pixels is left alone; from 1.5
    on all of it counts.

    Args:
      part: name of the part of the level.
      values: in native units; a number or an array.
    """
    if part != "blur":
        return values
    low, high = NATURAL_BLUR
    return values * np.clip((values - low) / (high - low), 0.0, 1.0)


@dataclasses.dataclass(frozen=True, eq=False)
class PartsEstimator:
    """Estimates the parts of an image's level.

    Attributes:
      names: names of the parts.
      gain: log(1 + gain z) of each part is what the network estimates, (A,).
      mean, deviation: mean and standard deviation of the training statistics, (F,).
      layers: (kernel, bias) of each layer.
    """

    names: tuple[str, ...]
    gain: Float[np.ndarray, " a"]
    mean: Float[np.ndarray, " f"]
    deviation: Float[np.ndarray, " f"]
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]

    def estimate(self, pixels: Real[np.ndarray, "h w c"], space: LevelSpace) -> dict[str, float]:
        """The parts by name, each within the range of its axis.

        Args:
          pixels: (H, W, C) in 0..255, C = 3 or 1.
          space: the level space that the network was trained for.

        Tiles spread over the image estimate it by the weighted mean of their cells, and count by
        the square root of the mean of these weights. For noise and blur the lower quartile of the
        tiles counts, because texture can look like noise, and what is out of focus like blur, but
        noise and blur are everywhere; for JPEG the median. Of blur it is the part that is not
        natural, see `beyond_natural`.
        """
        if space.names != self.names:
            raise UserError(
                f"The estimator is for levels with the parts {', '.join(self.names)}, not "
                f"{', '.join(space.names)}; choose another."
            )
        cells = np.stack([statistics(tile) for tile in _tiles(np.asarray(pixels, np.float32))])
        opinions = apply_layers(self.layers, (cells - self.mean) / self.deviation)
        opinions = opinions.reshape((len(cells), -1, opinions.shape[-1]))
        values, weights = weighted_mean(opinions), np.sqrt(cell_weights(opinions).mean(axis=-2))
        found = [
            weighted_quantile(own, sureness, quantile_of(name))
            for name, own, sureness in zip(self.names, values.T, weights.T, strict=True)
        ]
        z = np.expm1(found) / self.gain
        return {
            axis.name: float(beyond_natural(axis.name, axis.value_at(float(value))))
            for axis, value in zip(space.axes, z, strict=True)
        }

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes a safetensors file that `load_parts_estimator` reads."""
        flat = {"gain": self.gain, "mean": self.mean, "deviation": self.deviation}
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
        arrays, metadata = read_tensors(file, form=_FORMAT, called="file", holds="level estimator")
    try:
        names = tuple(map(str, json.loads(metadata["names"])))
        count = sum(name.startswith("kernel_") for name in arrays)
        layers = tuple((arrays[f"kernel_{n}"], arrays[f"bias_{n}"]) for n in range(count))
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise ValueError("some of its numbers are not finite")
        if not (arrays["deviation"] > 0).all() or arrays["gain"].shape != (len(names),):
            raise ValueError("its scales do not fit")
        cells = np.zeros((3, 3, 1)) * arrays["mean"] / arrays["deviation"]
        found = weighted_mean(apply_layers(layers, cells))
        if found.shape[-1] != len(names):
            raise ValueError(f"it has {found.shape[-1]} outputs for {len(names)} parts")
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"The file {path} does not describe its network ({error}).") from None
    return PartsEstimator(names, arrays["gain"], arrays["mean"], arrays["deviation"], layers)
