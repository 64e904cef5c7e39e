"""How degraded is it? The level of an image whose level nobody knows."""

from hypernet_jax.blind.estimate import (
    Estimate,
    estimate_noise,
    estimate_photo,
    estimate_quality,
)

__all__ = ["Estimate", "estimate_noise", "estimate_photo", "estimate_quality"]
