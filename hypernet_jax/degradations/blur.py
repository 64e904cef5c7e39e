"""Gaussian blur, traceable by JAX."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Float32, Key, Real

__all__ = ["gaussian_blur", "gaussian_weights", "weighted_neighbours"]

# Four standard deviations of the widest blur: weights beyond are below 1e-4.
_RADIUS = 16


def weighted_neighbours(
    image: Float[Array, "*n"], weights: Float[Array, " taps"], axis: int
) -> Float[Array, "*n"]:
    """Weighted sum of 2 R + 1 neighbours along an axis; the image is mirrored at its border.

    Args:
      image: an array of any shape.
      weights: (2 R + 1,).
      axis: axis of the image, 0 or more.
    """
    length, radius = image.shape[axis], len(weights) // 2
    widths = [(0, 0)] * image.ndim
    widths[axis] = (radius, radius)
    padded = jnp.pad(image, widths, mode="symmetric")

    # A loop over taps: a convolution would become a grouped one under vmap over sigmas.
    def add(tap, total):
        return total + weights[tap] * jax.lax.dynamic_slice_in_dim(padded, tap, length, axis)

    return jax.lax.fori_loop(0, len(weights), add, jnp.zeros_like(image))


def gaussian_weights(sigma: Real[ArrayLike, ""], radius: int) -> Float[Array, " taps"]:
    """Weights of 2 R + 1 neighbours, with sum 1; at sigma 0 the middle one is 1."""
    offsets = jnp.arange(-radius, radius + 1, dtype=jnp.float32)
    # The bound avoids 0 / 0 and changes nothing else: at 0.1 the neighbours' weight is exp(-50).
    weights = jnp.exp(
        -0.5 * jnp.square(offsets / jnp.maximum(jnp.asarray(sigma, jnp.float32), 0.1))
    )
    return weights / jnp.sum(weights)


@jax.jit
def gaussian_blur(
    key: Key[Array, ""] | None, image: Real[ArrayLike, "*n h w c"], sigma: Real[ArrayLike, ""]
) -> Float32[Array, "*n h w c"]:
    """Blurs with a Gaussian.

    Args:
      key: unused; blur is deterministic.
      image: (..., H, W, C), 0 to 255, of any height and width.
      sigma: standard deviation in pixels, scalar, 0 to 4; 0 leaves the image unchanged.

    Returns:
      float32 of the image's shape.
    """
    del key
    image = jnp.asarray(image, jnp.float32)
    weights = gaussian_weights(sigma, _RADIUS)
    for axis in (image.ndim - 3, image.ndim - 2):
        image = weighted_neighbours(image, weights, axis)
    return image
