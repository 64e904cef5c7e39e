"""Restoration networks: ordinary Flax modules, unaware of levels."""

from hypernet_jax.networks.bank import apply_bank
from hypernet_jax.networks.registry import (
    apply_network,
    init_network,
    make_network,
    network_options,
    register_network,
)
from hypernet_jax.networks.residual import ResidualNetwork
from hypernet_jax.networks.spec import NetworkSpec, check_exact_tiles, spec_of
from hypernet_jax.networks.unet import UNet

__all__ = [
    "NetworkSpec",
    "ResidualNetwork",
    "UNet",
    "apply_bank",
    "apply_network",
    "check_exact_tiles",
    "init_network",
    "make_network",
    "network_options",
    "register_network",
    "spec_of",
]
