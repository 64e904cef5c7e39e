"""What the networks put between two convolutions."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from hypernet_jax.errors import UserError

__all__ = ["ACTIVATIONS", "SLOPE", "activation", "leaky_relu"]

# Of negative inputs.
SLOPE = 0.1


@jax.jit  # so that exports find it by its name
def leaky_relu(x: jax.Array) -> jax.Array:
    """x, and a tenth of it where it is negative (Maas et al., ICML workshop 2013)."""
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
