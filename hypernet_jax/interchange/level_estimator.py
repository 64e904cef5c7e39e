"""The published noise-level network: imports, stores and applies it as an estimator."""

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
from hypernet_jax.files import local_path, write_atomically
from hypernet_jax.images.limits import check_unit_range
from hypernet_jax.interchange.torch_layout import State, StateDict
from hypernet_jax.networks.level_network import LevelNetwork
from hypernet_jax.tasks import get_task
from hypernet_jax.tensors import read_tensors

__all__ = ["LevelEstimator", "is_level_network", "level_estimator", "load_level_estimator"]

_FORMAT = "hypernet_jax/level_network/1"
# Crops along each axis, of which the median is taken; the published code takes one at random.
_CROPS = 3


@dataclasses.dataclass(frozen=True)
class LevelEstimator:
    """Estimates the level of an image.

    Attributes:
      task: name of the task that the level belongs to.
      crop: side of the network's input.
      network: the network.
      params: its parameters.
    """

    task: str
    crop: int
    network: LevelNetwork
    params: dict[str, Any]

    @functools.cached_property
    def _apply(self):
        return jax.jit(lambda params, crops: self.network.apply({"params": params}, crops))

    def estimate(self, image: np.ndarray) -> float:
        """Estimates the level of one image, in native units, within the task's range.

        Args:
          image: (H, W) or (H, W, C), C = 1 or 3; uint8, or float in [0, 1]. Sides
            shorter than the crop are padded symmetrically.

        Takes the median over crops spread evenly over the image.
        """
        image = np.asarray(image)
        if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
            raise UserError(f"An image must be uint8, or float in [0, 1], not {image.dtype}.")
        if image.ndim not in (2, 3) or image.shape[2:] not in ((), (1,), (3,)) or not image.size:
            raise UserError(f"An image must be (H, W) or (H, W, 3), not of shape {image.shape}.")
        if image.dtype != np.uint8:
            check_unit_range(image)
        pixels = image / 255.0 if image.dtype == np.uint8 else image
        pixels = np.atleast_3d(pixels).astype(np.float32)
        if pixels.shape[2] != self.network.colours:
            # Grey becomes three equal channels; colour becomes its mean.
            grey = pixels.mean(axis=2, keepdims=True)
            pixels = np.repeat(grey, self.network.colours, axis=2)
        pads = [(0, max(0, self.crop - side)) for side in pixels.shape[:2]]
        pixels = np.pad(pixels, (*pads, (0, 0)), mode="symmetric")
        tops, lefts = (
            np.unique(np.linspace(0, side - self.crop, _CROPS).astype(int))
            for side in pixels.shape[:2]
        )
        crops = np.stack(
            [pixels[y : y + self.crop, x : x + self.crop] for y in tops for x in lefts]
        )
        level = float(np.median(np.asarray(self._apply(self.params, crops))))
        axis = get_task(self.task).space.single
        return min(max(level, axis.low), axis.high)

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Writes a safetensors file that `load_level_estimator` reads."""
        flat = traverse_util.flatten_dict(jax.tree.map(np.asarray, self.params), sep="/")
        model = {
            "task": self.task,
            "crop": self.crop,
            "colours": self.network.colours,
            "channels": self.network.channels,
            "hidden": list(self.network.hidden),
        }
        metadata = {"format": _FORMAT, "model": json.dumps(model, sort_keys=True)}
        write_atomically(path, save(flat, metadata=metadata), overwrite=overwrite)


def is_level_network(state: State) -> bool:
    """Whether a PyTorch state dict looks like that of a level network."""
    return any(name.startswith(("conv_seq.", "fc_seq.")) for name in state)


def level_estimator(state: State, *, task: str) -> LevelEstimator:
    """Turns the state dict of HyperRes' published noise-level network into an estimator.

    Raises:
      UserError: names the first entry that is missing or does not fit; or for a task whose level
        has several parts.
    """
    get_task(task).space.single  # noqa: B018  refuses several parts
    taken = StateDict(state, what="HyperRes' published noise-level network")
    kernel, bias = taken.conv("conv1", inputs=None, outputs=None)
    colours, channels = kernel.shape[2:]
    params: dict[str, Any] = {"head": {"kernel": kernel, "bias": bias}}
    for block in range(4):
        for conv in (1, 2):
            kernel, bias = taken.conv(
                f"conv_seq.{2 * block}.conv{conv}", inputs=channels, outputs=channels
            )
            params[f"block_{block}_conv_{conv}"] = {"kernel": kernel, "bias": bias}
    units: list[int] = []
    for layer in range(3):
        name = f"fc_seq.{2 * layer}"
        outputs = 1 if layer == 2 else None
        weight = taken.take(f"{name}.weight", (outputs, units[-1] if units else None))
        if layer == 0:
            side = round((weight.shape[1] / channels) ** 0.5)
            if side < 1 or channels * side**2 != weight.shape[1]:
                raise UserError(
                    f"The checkpoint is not HyperRes' published noise-level network: its entry "
                    f"'{name}.weight' has {weight.shape[1]} inputs, which are not {channels} "
                    "channels of a square; give one of that architecture."
                )
            # PyTorch flattens (channels, height, width), Flax (height, width, channels).
            weight = weight.reshape(-1, channels, side, side).transpose(0, 2, 3, 1)
            weight = weight.reshape(weight.shape[0], -1)
        units.append(weight.shape[0])
        bias = taken.take(f"{name}.bias", (units[-1],))
        params[f"dense_{layer}"] = {"kernel": np.ascontiguousarray(weight.T), "bias": bias}
    taken.finish()
    network = LevelNetwork(colours=colours, channels=channels, hidden=(units[0], units[1]))
    return LevelEstimator(task=task, crop=32 * side, network=network, params=params)


def load_level_estimator(path: str | Path) -> LevelEstimator:
    """Reads a file written by `LevelEstimator.save`.

    Raises:
      UserError: if there is no such file, or it is damaged or in another format.
    """
    path = local_path(path)
    if not path.is_file():
        raise UserError(f"There is no level estimator {path}; check the path.")
    flat, metadata = read_tensors(path, form=_FORMAT, called="file", holds="level estimator")
    try:
        model = json.loads(metadata["model"])
        network = LevelNetwork(model["colours"], model["channels"], tuple(model["hidden"]))
        task, crop = get_task(model["task"]).name, int(model["crop"])
        get_task(task).space.single  # noqa: B018  refuses several parts
        image = jax.ShapeDtypeStruct((1, crop, crop, network.colours), jnp.float32)
        expected = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
        arrays = {name: jnp.asarray(value) for name, value in flat.items()}
        params = traverse_util.unflatten_dict(arrays, sep="/")
    except (AttributeError, ArithmeticError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"The file {path} does not describe its network ({error}).") from None
    if jax.tree.map(jnp.shape, params) != jax.tree.map(lambda leaf: leaf.shape, expected):
        raise UserError(f"The weights in {path} do not fit the network in its metadata.")
    return LevelEstimator(task=task, crop=crop, network=network, params=params)
