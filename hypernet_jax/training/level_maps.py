"""Random level maps for training."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

__all__ = ["random_blobs"]

# Spacing, in pixels, of the random field behind the blobs.
_CELL = 12
# Slope of the share at the edge of a blob, per unit of the random field.
_SOFTEST, _HARDEST = 2.0, 200.0


def random_blobs(key: Key[Array, ""], size: tuple[int, int]) -> Float[Array, "h w"]:
    """A random mixing weight of two levels at each pixel: blobs with soft to hard edges.

    Args:
      key: PRNG key.
      size: height and width.

    Returns:
      (H, W) in [0, 1]; for half of the keys 0 everywhere.
    """
    values, place, edge, flat = jax.random.split(key, 4)
    cells = tuple(-(-length // _CELL) + 1 for length in size)
    field = jax.image.resize(jax.random.normal(values, cells), size, "cubic")
    slope = jnp.exp(jax.random.uniform(edge, minval=jnp.log(_SOFTEST), maxval=jnp.log(_HARDEST)))
    share = jax.nn.sigmoid(slope * (field - 0.5 * jax.random.normal(place)))
    return jnp.where(jax.random.bernoulli(flat), share, 0.0)
