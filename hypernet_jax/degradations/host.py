"""Random degradations that run on the host, with NumPy."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float32, Key, Real

__all__ = ["each_with_generator"]


def each_with_generator(
    function: Callable[[np.random.Generator, np.ndarray], Any],
    key: Key[Array, ""],
    image: Real[ArrayLike, "*n h w c"],
) -> Float32[np.ndarray, "*n h w c"]:
    """Applies a function to each image, with a random generator of its own.

    Args:
      function: (generator, (H, W, C)) to an image of that shape.
      key: PRNG key that the generators follow from.
      image: (..., H, W, C).
    """
    images = np.asarray(image, np.float32)
    flat = images.reshape((-1, *images.shape[-3:]))
    seed = np.asarray(jax.random.key_data(key))
    made = [
        function(rng, one)
        for rng, one in zip(np.random.default_rng(seed).spawn(len(flat)), flat, strict=True)
    ]
    return np.asarray(made, np.float32).reshape(images.shape)
