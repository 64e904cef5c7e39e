"""Common to all exported models: baking in a level, and descriptions."""

from typing import Any

import jax

from hypernet_jax.errors import UserError
from hypernet_jax.features import Constant
from hypernet_jax.hypernet import Theta
from hypernet_jax.levels import Level, LevelSpace
from hypernet_jax.model import Model
from hypernet_jax.version import __version__

__all__ = ["bake", "check_level_map", "describe", "is_plain", "level_shape"]


def is_plain(model: Model) -> bool:
    """Whether the network does not depend on the level."""
    return isinstance(model.hypernet.features, Constant)


def check_level_map(model: Model) -> None:
    """Raises `UserError` if the model does not support level maps."""
    if model.task.enlarges:
        raise UserError(
            "The scale factor is the same for the whole image; leave out the level map."
        )
    if is_plain(model):
        raise UserError(
            "A plain network serves only one level, not one for each pixel; choose other weights."
        )


def level_shape(model: Model) -> tuple[int, ...]:
    """Shape of an exported model's level: a scalar, or a vector of several parts."""
    parts = len(model.task.space)
    return () if parts == 1 else (parts,)


def bake(
    model: Model, theta: Theta, config: dict[str, Any], level: Level
) -> tuple[Theta, dict[str, Any]]:
    """The plain network for a single level, as weights.

    Args:
      model, theta, config: as `load_weights_and_config` returns them.
      level: a level of the model's space.

    Returns:
      theta and config for `save_weights`, with features "constant" and an entry "level" that
      makes every other level an error.
    """
    phi = model.hypernet.phi(theta["features"], level.array)
    banks = {
        path: jax.numpy.tensordot(phi, bank, axes=1)[None]
        for path, bank in theta["generated"].items()
    }
    baked = {"generated": banks, "shared": theta["shared"], "features": {}}
    return baked, {**config, "features": {"name": "constant"}, "level": level.plain()}


def describe(
    model: Model, *, level: Level | None, layout: str, level_map: bool = False
) -> dict[str, Any]:
    """A description for users of an exported file, stored in it or beside it.

    Args:
      model: the exported model.
      level: the level that is baked in; None if the level is an input.
      layout: axes of image and result, such as "NCHW".
      level_map: the level is given for every pixel, in the same layout.
    """
    task = model.task
    image = "degraded image"
    if task.enlarges:
        image = (
            "image already enlarged by the level (bicubic, a = -0.5, rounded and clipped to 8 bits)"
        )
    return {
        "made_by": f"hypernet_jax {__version__}",
        "task": task.name,
        "image": f"{image}, {layout}, float32 in [0, 1], any height and width",
        "restored": f"restored image, {layout}, float32, not clipped to [0, 1]",
        "colours": model.colours,
        **_described_axes(task.space if level is None else task.space.at(level)),
        "level_is_input": level is None and not is_plain(model),
        "level_is_map": level_map,
    }


def _described_axes(space: LevelSpace) -> dict[str, Any]:
    """Quantity, unit, range and neutral value of the level; lists of them for several parts."""
    described = [
        {
            "level_quantity": axis.quantity,
            "level_unit": axis.unit,
            "level_low": axis.low,
            "level_high": axis.high,
            "level_neutral": axis.neutral,
        }
        for axis in space.axes
    ]
    if len(described) == 1:
        return described[0]
    merged = {name: [axis[name] for axis in described] for name in described[0]}
    return {"level_parts": list(space.names), **merged}
