"""Fresh kernels for units of residual blocks that are negative on all photographs.

Such a unit outputs zero under a ReLU and has no gradient, so a trained network is smaller than it
looks. The network keeps its function, and what the fresh units can add is learned from there.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jaxtyping import Array, Bool, Float, Key

from hypernet_jax.errors import UserError
from hypernet_jax.features import Affine
from hypernet_jax.hypernet import Theta
from hypernet_jax.levels import Level
from hypernet_jax.model import Model

__all__ = ["Examples", "dead_units", "revived", "unit_inputs"]

# Levels, each with degraded images (N, H, W, C) in [0, 1].
Examples = Sequence[tuple[Level, Float[np.ndarray, "n h w c"]]]

# The share of pixels on which a dead unit is positive, at most.
_DEAD = 0.002


def unit_inputs(
    model: Model, theta: Theta, level: Level, images: Float[np.ndarray, "n h w c"]
) -> dict[str, np.ndarray]:
    """The inputs of the activations in residual blocks, by the name of the block.

    Args:
      model, theta: a trained network.
      level: of the images.
      images: degraded, (N, H, W, C) in [0, 1].

    Returns:
      (N, H', W', units) for each block.
    """
    _, state = model.network.apply(
        {"params": model.generate(theta, jnp.asarray(level.array))},
        jnp.asarray(images),
        capture_intermediates=lambda module, _: module.name == "conv_1",
        mutable=["intermediates"],
    )
    held = traverse_util.flatten_dict(state["intermediates"], sep="/")
    return {
        path.removesuffix("/conv_1/__call__"): np.asarray(values)
        for path, (values,) in held.items()
    }


def dead_units(
    model: Model, theta: Theta, examples: Examples
) -> dict[str, Bool[np.ndarray, " units"]]:
    """Which units of each block are negative at all levels, or reach the output only by zeros.

    The latter are units that a network has grown.
    """
    positive: dict[str, list[np.ndarray]] = {}
    for level, images in examples:
        for block, inputs in unit_inputs(model, theta, level, images).items():
            positive.setdefault(block, []).append((inputs > 0).mean(axis=(0, 1, 2)))
    return {
        block: (np.max(shares, axis=0) < _DEAD) | _without_effect(theta, block)
        for block, shares in positive.items()
    }


def _without_effect(theta: Theta, block: str) -> Bool[np.ndarray, " units"]:
    kernel = np.asarray(theta["generated"][f"{block}/conv_2/kernel"])
    return np.logical_not(np.any(kernel, axis=(0, 1, 2, 4)))


def revived(
    key: Key[Array, ""], model: Model, theta: Theta, examples: Examples
) -> tuple[Theta, dict[str, int]]:
    """Gives dead units fresh kernels, and zeros behind them.

    The fresh kernels do not depend on the level. Their inputs have the mean 0 and the deviation
    that is the median of all other units, on the examples together.

    Args:
      key: PRNG key of the fresh kernels.
      model: with affine features, and all parameters generated.
      theta: trained.
      examples: degraded images at levels over the whole range.

    Returns:
      The new theta, and the number of fresh units by block.

    Raises:
      UserError: if the features are not affine, or a parameter is shared by all levels.
    """
    if model.hypernet.features != Affine() or theta["shared"]:
        raise UserError(
            "Units are revived in networks with affine features and no shared parameters; "
            "choose such weights."
        )
    dead = dead_units(model, theta, examples)
    fresh, banks = model.init(key)["generated"], dict(theta["generated"])
    for block, units in dead.items():
        kernel, bias, behind = (f"{block}/{name}" for name in _PARAMETERS)
        columns = jnp.where(units, fresh[kernel].at[1:].set(0), banks[kernel])
        banks[kernel], banks[bias] = columns, jnp.where(units, 0.0, banks[bias])
        banks[behind] = jnp.where(units[:, None], 0.0, banks[behind])
    means, deviations = _moments(model, {**theta, "generated": banks}, examples)
    others = np.concatenate([deviations[block][~units] for block, units in dead.items()])
    for block, units in dead.items():
        kernel, bias, _ = (f"{block}/{name}" for name in _PARAMETERS)
        scale = jnp.where(units, np.median(others) / (deviations[block] + 1e-6), 1.0)
        banks[kernel] = banks[kernel] * scale
        banks[bias] = banks[bias].at[0].add(jnp.where(units, -means[block] * scale, 0.0))
    counts = {block: int(units.sum()) for block, units in dead.items()}
    return {**theta, "generated": banks}, counts


_PARAMETERS = ("conv_1/kernel", "conv_1/bias", "conv_2/kernel")


def _moments(
    model: Model, theta: Theta, examples: Examples
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Means and standard deviations of the inputs of all units, by block."""
    found: dict[str, list[np.ndarray]] = {}
    for level, images in examples:
        for block, inputs in unit_inputs(model, theta, level, images).items():
            found.setdefault(block, []).append(inputs.reshape(-1, inputs.shape[-1]))
    values = {block: np.concatenate(each) for block, each in found.items()}
    return (
        {block: each.mean(axis=0) for block, each in values.items()},
        {block: each.std(axis=0) for block, each in values.items()},
    )
