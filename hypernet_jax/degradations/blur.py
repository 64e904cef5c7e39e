"""Gaussian blur, on the device."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

__all__ = ["gaussian_blur"]

# Four standard deviations of the widest blur: what lies beyond weighs less than 1e-4.
_RADIUS = 16


def _blur_axis(image: jax.Array, weights: jax.Array, axis: int) -> jax.Array:
    """Weighs 2 R + 1 neighbours along an axis; beyond the border the image is mirrored."""
    length = image.shape[axis]
    widths = [(0, 0)] * image.ndim
    widths[axis] = (_RADIUS, _RADIUS)
    padded = jnp.pad(image, widths, mode="symmetric")

    # A loop over taps, not a convolution: under vmap over sigmas that would be a grouped one.
    def add(tap, total):
        return total + weights[tap] * jax.lax.dynamic_slice_in_dim(padded, tap, length, axis)

    return jax.lax.fori_loop(0, 2 * _RADIUS + 1, add, jnp.zeros_like(image))


@jax.jit
def gaussian_blur(key: jax.Array | None, image: ArrayLike, sigma: ArrayLike) -> jax.Array:
    """Blurs by a Gaussian.

    Args:
      key: unused; blur is deterministic.
      image: (..., H, W, C), 0 to 255, of any height and width.
      sigma: standard deviation in pixels, scalar, 0 to 4; 0 leaves the image as it is.

    Returns:
      float32 of the image's shape.
    """
    del key
    image = jnp.asarray(image, jnp.float32)
    offsets = jnp.arange(-_RADIUS, _RADIUS + 1, dtype=jnp.float32)
    # The bound keeps 0 / 0 out and changes nothing: there the neighbours weigh exp(-50).
    weights = jnp.exp(-0.5 * jnp.square(offsets / jnp.maximum(sigma, 0.1)))
    weights = weights / jnp.sum(weights)
    for axis in (image.ndim - 3, image.ndim - 2):
        image = _blur_axis(image, weights, axis)
    return image
