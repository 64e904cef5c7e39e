"""Leaves residual blocks out of a trained network.

A residual block adds to what it receives, so the network without it still restores, and a short
training makes up for much of what the block contributed.
"""

import re

import jax.numpy as jnp

from hypernet_jax.errors import UserError
from hypernet_jax.hypernet import Theta
from hypernet_jax.model import Model
from hypernet_jax.networks.residual import ResidualNetwork

__all__ = ["block_count", "silenced", "without_block"]

_BLOCK = re.compile(r"block_(\d+)/(.+)")


def block_count(model: Model) -> int:
    """The residual blocks of a network, numbered from 0.

    Raises:
      UserError: if the network is no `ResidualNetwork`.
    """
    if not isinstance(model.network, ResidualNetwork):
        raise UserError(
            f"Blocks are left out of residual networks only; this one is a "
            f"{type(model.network).__name__}."
        )
    return model.network.blocks


def silenced(theta: Theta, block: int) -> Theta:
    """Sets to zero what a block adds; the tree keeps its shapes."""

    def silent(path, values):
        return jnp.zeros_like(values) if path.startswith(f"block_{block}/conv_2/") else values

    return _mapped(theta, lambda bank: {path: silent(path, bank[path]) for path in bank})


def without_block(theta: Theta, block: int) -> Theta:
    """Removes a block and renumbers those behind it, for a network with one block fewer."""

    def renumbered(bank):
        kept = {}
        for path, values in bank.items():
            found = _BLOCK.fullmatch(path)
            if found is None or int(found[1]) < block:
                kept[path] = values
            elif int(found[1]) > block:
                kept[f"block_{int(found[1]) - 1}/{found[2]}"] = values
        return kept

    return _mapped(theta, renumbered)


def _mapped(theta: Theta, change) -> Theta:
    """Changes the parameters of the network, those of every level and those shared by all."""
    return {**theta, **{name: change(theta[name]) for name in ("generated", "shared")}}
