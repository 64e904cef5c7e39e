"""Level maps to train with."""

import jax
import jax.numpy as jnp

__all__ = ["random_blobs"]

# Pixels between the random values that blobs are made of.
_CELL = 12
# How fast a share rises at the edge of a blob, per unit of the random values.
_SOFTEST, _HARDEST = 2.0, 200.0


def random_blobs(key: jax.Array, size: tuple[int, int]) -> jax.Array:
    """A random share of two levels at each pixel: blobs with edges from soft to hard.

    Args:
      key: PRNG key.
      size: height and width.

    Returns:
      (H, W) in [0, 1]; in every second image 0 everywhere.
    """
    values, place, edge, flat = jax.random.split(key, 4)
    cells = tuple(-(-length // _CELL) + 1 for length in size)
    field = jax.image.resize(jax.random.normal(values, cells), size, "cubic")
    slope = jnp.exp(jax.random.uniform(edge, minval=jnp.log(_SOFTEST), maxval=jnp.log(_HARDEST)))
    share = jax.nn.sigmoid(slope * (field - 0.5 * jax.random.normal(place)))
    return jnp.where(jax.random.bernoulli(flat), share, 0.0)
