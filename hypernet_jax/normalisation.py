"""How levels become z, the dimensionless number that the kernels are affine in.

Each function maps levels in native units, elementwise, to numbers of the size of 1. One in which
the strength of restoration grows about linearly, and which is 0 where there is nothing to restore,
serves a kernel that is affine in it best.
"""

import jax.numpy as jnp

__all__ = ["NORMALISATIONS"]


def _published(level):
    """level / 255 for every task, as the published code does."""
    return level / 255.0


def _per_hundred(level):
    return level / 100.0


def _noise_share(level):
    """The share of the noise in what is seen, where detail has a contrast of 25 grey levels.

    0 at sigma 0, 1/2 at 25, 4/5 at 100: steep where a little more noise changes most.
    """
    return level / (level + 25.0)


def _jpeg_error(level):
    """Square root of libjpeg's quantiser scale, 1 at quality 50.

    The standard tables are multiplied by 50/q below quality 50 and by
    (100 - q)/50 above it, and the error of a decoded image grows about as the
    square root of that factor: so restoration strength is close to linear in
    this z where it is far from linear in the quality. 0 at quality 100.

    Held at its value for quality 5 below that: there the tables reach their largest entry
    and change little more, but z would soon double, far outside what is trained.
    """
    quality = jnp.clip(level, 5.0, 100.0)
    factor = jnp.where(quality < 50.0, 50.0 / quality, (100.0 - quality) / 50.0)
    return jnp.sqrt(factor)


def _scale_loss(level):
    """1 - 1/scale: the fraction of each axis' bandwidth that was lost; 0 at scale 1."""
    return 1.0 - 1.0 / level


def _blur_loss(level):
    """The fraction of its contrast that a detail of one pixel (a Gaussian spot of sigma 1) loses.

    0 at sigma 0, and like the error of a blurred image it grows as sigma squared there.
    """
    return level * level / (1.0 + level * level)


NORMALISATIONS = {
    "published": _published,
    "per_hundred": _per_hundred,
    "noise_share": _noise_share,
    "jpeg_error": _jpeg_error,
    "scale_loss": _scale_loss,
    "blur_loss": _blur_loss,
}
