"""Restoration networks: ordinary Flax modules, unaware of levels."""

from hypernet_jax.networks.bank import apply_bank
from hypernet_jax.networks.registry import apply_network, init_network, make_network
from hypernet_jax.networks.residual import ResidualNetwork

__all__ = ["ResidualNetwork", "apply_bank", "apply_network", "init_network", "make_network"]
