"""Activation functions of the networks."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hypernet_jax.errors import UserError

__all__ = ["ACTIVATIONS", "SLOPE", "activation", "leaky_relu"]

# Slope for negative inputs.
SLOPE = 0.1


@jax.jit  # keeps its name in the jaxpr, for the exporters
def leaky_relu(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Leaky ReLU (Maas et al., ICML workshop 2013) with slope 0.1 for negative inputs."""
    return jnp.maximum(x, SLOPE * x)


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": leaky_relu,
}


def activation(name: str) -> Callable[[jax.Array], jax.Array]:
    """The function called `name`; `UserError` if there is none."""
    if name not in ACTIVATIONS:
        raise UserError(f"Unknown activation {name!r}; choose one of {', '.join(ACTIVATIONS)}.")
    return ACTIVATIONS[name]
