"""What every exported model has in common: one level baked in or not, and its description."""

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
    """Raises `UserError` where pixels cannot have levels of their own."""
    if model.task.enlarges:
        raise UserError("An image is enlarged by one factor: its level cannot be a map.")
    if is_plain(model):
        raise UserError("A plain network serves one level: there is no level to make a map of.")


def level_shape(model: Model) -> tuple[int, ...]:
    """Of the level that an exported model takes: a scalar, or a vector of several parts."""
    parts = len(model.task.space)
    return () if parts == 1 else (parts,)


def bake(
    model: Model, theta: Theta, config: dict[str, Any], level: Level
) -> tuple[Theta, dict[str, Any]]:
    """A plain network: the one for a single level, in the form of any other weights.

    Args:
      model, theta, config: as `load_weights_and_config` returns them.
      level: of the model's space.

    Returns:
      theta and config to be given to `save_weights`: features "constant", and an entry
      "level" that makes every other level an error.
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
    """What a user of an exported file must know; stands in or beside it.

    Args:
      model: what is exported.
      level: the one that is baked in; None where the level is an input.
      layout: axes of image and result, such as "NCHW".
      level_map: the level is given for every pixel, in the same layout.
    """
    task = model.task
    image = "degraded image"
    if task.enlarges:
        image = "image already enlarged by the level (bicubic, a = -0.5, rounded to 8 bits)"
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
    """The quantity, unit and range of the level; lists of them where it has several parts."""
    described = [
        {
            "level_quantity": axis.quantity,
            "level_unit": axis.unit,
            "level_low": axis.low,
            "level_high": axis.high,
        }
        for axis in space.axes
    ]
    if len(described) == 1:
        return described[0]
    merged = {name: [axis[name] for axis in described] for name in described[0]}
    return {"level_parts": list(space.names), **merged}
