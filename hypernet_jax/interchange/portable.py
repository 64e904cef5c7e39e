"""What every exported model has in common: one level baked in or not, and its description."""

from typing import Any

import jax

from hypernet_jax.features import Constant
from hypernet_jax.hypernet import Theta
from hypernet_jax.model import Model
from hypernet_jax.version import __version__

__all__ = ["bake", "describe", "is_plain"]


def is_plain(model: Model) -> bool:
    """Whether the network does not depend on the level."""
    return isinstance(model.hypernet.features, Constant)


def bake(
    model: Model, theta: Theta, config: dict[str, Any], level: float
) -> tuple[Theta, dict[str, Any]]:
    """A plain network: the one for a single level, in the form of any other weights.

    Args:
      model, theta, config: as `load_weights_and_config` returns them.
      level: in people's units.

    Returns:
      theta and config to be given to `save_weights`: features "constant", and an entry
      "level" that makes every other level an error.
    """
    value = model.task.scale.valid(level)
    phi = model.hypernet.phi(theta["features"], value)
    banks = {
        path: jax.numpy.tensordot(phi, bank, axes=1)[None]
        for path, bank in theta["generated"].items()
    }
    baked = {"generated": banks, "shared": theta["shared"], "features": {}}
    return baked, {**config, "features": {"name": "constant"}, "level": value}


def describe(model: Model, *, level: float | None, layout: str) -> dict[str, Any]:
    """What a user of an exported file must know; stands in or beside it.

    Args:
      model: what is exported.
      level: the one that is baked in; None where the level is an input.
      layout: axes of image and result, such as "NCHW".
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
        "level_quantity": task.scale.quantity,
        "level_unit": task.scale.unit,
        "level_low": task.scale.low if level is None else level,
        "level_high": task.scale.high if level is None else level,
        "level_is_input": level is None and not is_plain(model),
    }
