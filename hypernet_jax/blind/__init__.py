"""How degraded is it? The level of an image whose level nobody knows."""

from hypernet_jax.blind.estimate import Estimate, can_estimate, estimate_level

__all__ = ["Estimate", "can_estimate", "estimate_level"]
