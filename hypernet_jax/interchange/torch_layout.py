"""Converts the names and layouts of PyTorch state dicts to parameters of this package.

In the published checkpoints of HyperRes (Aharon and Ben-Artzi, ICASSP 2023),
each residual convolution is stored as a linear layer of the level, `fc`: its
weight is the slope and its bias the base of the flattened kernel
(out, in, 3, 3), followed by those of the convolution's bias.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hypernet_jax.errors import UserError
from hypernet_jax.hypernet import Theta
from hypernet_jax.levels import Level
from hypernet_jax.tasks import get_task

__all__ = ["StateDict", "restoration_theta"]

State = Mapping[str, np.ndarray]

# PyTorch's names and ours; with a light tail there is no "upsample" and "refine".
_SHARED = {
    "conv1": "head",
    "conv2": "body_end",
    "conv3": "upsample",
    "conv4": "refine",
    "conv5": "output",
}


class StateDict:
    """A state dict from which entries are taken one by one, with checks of their shapes."""

    def __init__(self, state: State, *, what: str):
        self._left = dict(state)
        self._what = what

    def take(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        """Removes and returns an entry; None in `shape` stands for any size."""
        if name not in self._left:
            raise UserError(
                f"The checkpoint is not {self._what}: it has no entry {name!r}; "
                "give one of that architecture."
            )
        array = self._left.pop(name)
        fits = array.ndim == len(shape) and all(
            given > 0 and size in (None, given)
            for size, given in zip(shape, array.shape, strict=True)
        )
        if not fits:
            wanted = tuple("any" if size is None else size for size in shape)
            raise UserError(
                f"The checkpoint is not {self._what}: its entry {name!r} has the shape "
                f"{array.shape}, not ({', '.join(map(str, wanted))}) as expected; give one of "
                "that architecture."
            )
        return array

    def conv(
        self, name: str, *, inputs: int | None, outputs: int | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Takes a 3x3 convolution; returns the kernel as (3, 3, in, out) and the bias."""
        kernel = self.take(f"{name}.weight", (outputs, inputs, 3, 3))
        return to_hwio(kernel), self.take(f"{name}.bias", (kernel.shape[0],))

    def count(self, prefix: str, *, start: int) -> int:
        """How many of prefix.START, prefix.START+1, ... there are."""
        count = 0
        while any(name.startswith(f"{prefix}.{start + count}.") for name in self._left):
            count += 1
        return count

    def has(self, prefix: str) -> bool:
        """Whether any entry's name starts with `prefix`."""
        return any(name.startswith(prefix) for name in self._left)

    def finish(self) -> None:
        """Raises `UserError` if an entry was not taken."""
        if self._left:
            raise UserError(
                f"The checkpoint is not {self._what}: it has an unexpected entry "
                f"{min(self._left)!r}; give one of that architecture."
            )


def to_hwio(kernel: np.ndarray) -> np.ndarray:
    """Transposes (out, in, height, width) to (height, width, in, out)."""
    return np.ascontiguousarray(kernel.transpose(2, 3, 1, 0))


def restoration_theta(
    state: State, *, task: str, level: Any = None, residual_output: bool = False
) -> tuple[Theta, dict[str, Any]]:
    """Turns the state dict of a restoration network into theta and the config of its model.

    Args:
      state: of HyperRes' published network (`res_blocks_meta.1.hy_conv1.fc.weight`, ...), or of
        a plain network with the same body (`res_blocks.0.conv1.weight`, ...; without `conv3` and
        `conv4`, `conv5` leads to the image by a pixel shuffle). Width, number of blocks and
        colours are inferred from the shapes.
      task: name of its task.
      level: for a plain network, the level that it was trained for, as `LevelSpace.parse` takes it.
      residual_output: a plain network adds the degraded image to its output.

    Raises:
      UserError: names the first entry that is missing or does not fit.
    """
    space = get_task(task).space
    published = any(name.startswith("res_blocks_meta.") for name in state)
    plain = any(name.startswith("res_blocks.") for name in state)
    # What is neither fails at its first missing entry.
    if published or not (plain or level is not None):
        if len(space) > 1:
            raise UserError(
                f"The published network has a level of one part, but the level of {task} has "
                f"{len(space)}; choose another task."
            )
        if level is not None or residual_output:
            raise UserError(
                "The published network serves every level and predicts the image itself; leave "
                "out --level and --residual-output."
            )
        return _published(state, task)
    if level is None:
        raise UserError(
            "The checkpoint holds a plain network; give the --level that it was trained for: "
            f"{space.with_article()}."
        )
    return _plain(state, task, space.parse(level), residual_output)


def _published(state: State, task: str) -> tuple[Theta, dict[str, Any]]:
    taken = StateDict(state, what="HyperRes' published network")
    shared, channels, colours = _frame(taken)
    generated: dict[str, np.ndarray] = {}
    # The published blocks are numbered from 1.
    blocks = max(1, taken.count("res_blocks_meta", start=1))
    size = 9 * channels**2
    for block in range(blocks):
        for conv in (1, 2):
            name = f"res_blocks_meta.{block + 1}.hy_conv{conv}.fc"
            slope = taken.take(f"{name}.weight", (size + channels, 1))[:, 0]
            base = taken.take(f"{name}.bias", (size + channels,))
            kernels = [
                to_hwio(part[:size].reshape(channels, channels, 3, 3)) for part in (base, slope)
            ]
            generated[f"block_{block}/conv_{conv}/kernel"] = np.stack(kernels)
            generated[f"block_{block}/conv_{conv}/bias"] = np.stack([base[size:], slope[size:]])
    taken.finish()
    config = {
        "task": task,
        "normalisation": "published",
        "network": _network(channels, blocks, colours),
        "features": {"name": "affine"},
        "generated": "block_",
    }
    return {"generated": generated, "shared": shared, "features": {}}, config


def _plain(
    state: State, task: str, level: Level, residual_output: bool
) -> tuple[Theta, dict[str, Any]]:
    taken = StateDict(state, what="a plain network of the published shape")
    leaves, channels, colours = _frame(taken)
    start = 0 if taken.has("res_blocks.0.") else 1
    blocks = taken.count("res_blocks", start=start)
    for block in range(blocks):
        for conv in (1, 2):
            kernel, bias = taken.conv(
                f"res_blocks.{start + block}.conv{conv}", inputs=channels, outputs=channels
            )
            leaves[f"block_{block}/conv_{conv}/kernel"] = kernel
            leaves[f"block_{block}/conv_{conv}/bias"] = bias
    taken.finish()
    ways = [axis.normalisation for axis in level.space.axes]
    network = _network(channels, blocks, colours) | {
        "light_tail": "refine/kernel" not in leaves,
        "residual_output": residual_output,
    }
    config = {
        "task": task,
        "normalisation": ways[0] if len(ways) == 1 else ways,
        "network": network,
        "features": {"name": "constant"},
        "generated": "",
        "level": level.plain(),
    }
    banks = {path: leaf[None] for path, leaf in leaves.items()}
    return {"generated": banks, "shared": {}, "features": {}}, config


def _frame(taken: StateDict) -> tuple[dict[str, np.ndarray], int, int]:
    """Takes the layers around the body; returns them, the width and the colours."""
    first = taken.take("conv1.weight", (None, None, 3, 3))
    channels, colours = first.shape[:2]
    if colours not in (1, 3):
        raise UserError(
            f"The checkpoint is for images with {colours} channels; give one for 3 (colour) or "
            "1 (grey)."
        )
    leaves = {"head/kernel": to_hwio(first), "head/bias": taken.take("conv1.bias", (channels,))}
    light = not taken.has("conv3.") and not taken.has("conv4.") and not taken.has("res_blocks_meta")
    outputs = {"conv2": channels, "conv3": 4 * channels, "conv4": channels, "conv5": colours}
    if light:
        outputs = {"conv2": channels, "conv5": 4 * colours}
    for theirs, count in outputs.items():
        ours = _SHARED[theirs]
        leaves[f"{ours}/kernel"], leaves[f"{ours}/bias"] = taken.conv(
            theirs, inputs=channels, outputs=count
        )
    return leaves, channels, colours


def _network(channels: int, blocks: int, colours: int) -> dict[str, Any]:
    return {
        "name": "residual",
        "colours": colours,
        "channels": channels,
        "blocks": blocks,
        "light_tail": False,
        "residual_output": False,
        "init_gain": 0.1,
    }
