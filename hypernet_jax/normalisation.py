"""Maps levels to z, the dimensionless number in which the kernels are affine.

Each function maps levels in native units, elementwise, to numbers of order 1. For kernels affine
in z the best choice is roughly linear in the strength of restoration, and 0 where there is
nothing to restore.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from hypernet_jax.errors import UserError

__all__ = ["NORMALISATIONS", "register_normalisation"]


def _published(level):
    """level / 255 for every task, as in the published code."""
    return level / 255.0


def _per_hundred(level):
    return level / 100.0


def _noise_share(level):
    """The share of noise in the signal, for detail with a contrast of 25 grey levels.

    0 at sigma 0, 1/2 at 25, 4/5 at 100: steepest at low noise, where a little more matters most.
    """
    return level / (level + 25.0)


def _jpeg_error(level):
    """Square root of libjpeg's quantiser scale, 1 at quality 50.

    The standard tables are multiplied by 50/q below quality 50 and by
    (100 - q)/50 above it, and the error of a decoded image grows roughly as the
    square root of that factor. Restoration strength is therefore close to linear
    in this z, but far from linear in the quality. 0 at quality 100.

    Constant below quality 5: there the tables saturate at their largest entry and hardly
    change, while z would soon double, far outside the trained range.
    """
    quality = jnp.clip(level, 5.0, 100.0)
    factor = jnp.where(quality < 50.0, 50.0 / quality, (100.0 - quality) / 50.0)
    # The slope at quality 100 is infinite; a gradient there is 0 instead.
    return jnp.where(factor > 0.0, jnp.sqrt(jnp.where(factor > 0.0, factor, 1.0)), 0.0)


def _scale_loss(level):
    """1 - 1/scale: the fraction of bandwidth lost along each axis; 0 at scale 1."""
    return 1.0 - 1.0 / level


def _blur_loss(level):
    """The fraction of contrast lost by one-pixel detail (a Gaussian spot of sigma 1).

    0 at sigma 0, and near 0 it grows as sigma squared, like the error of a blurred image.
    """
    return level * level / (1.0 + level * level)


NORMALISATIONS: dict[str, Callable[[Any], Any]] = {
    "published": _published,
    "per_hundred": _per_hundred,
    "noise_share": _noise_share,
    "jpeg_error": _jpeg_error,
    "scale_loss": _scale_loss,
    "blur_loss": _blur_loss,
}


def register_normalisation(name: str, to_z: Callable[[Any], Any]) -> None:
    """Makes a map from levels to z available to axes and as `config.levels.normalisation`.

    Args:
      name: a new name.
      to_z: float32 JAX arrays of any shape, in native units -> z, elementwise; JAX traces it.

    Raises:
      UserError: if the name is taken, or is none, or `to_z` is no function.
    """
    if not isinstance(name, str) or not callable(to_z):
        raise UserError(f"A normalisation is a name and a function, not {name!r} and {to_z!r}.")
    if name in NORMALISATIONS:
        raise UserError(f"There is a normalisation {name!r} already; choose another name.")
    NORMALISATIONS[name] = to_z
