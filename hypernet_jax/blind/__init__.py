"""Blind estimation of an image's degradation level."""

from hypernet_jax.blind.estimate import (
    Estimate,
    estimate_noise,
    estimate_photo,
    estimate_quality,
)

__all__ = ["Estimate", "estimate_noise", "estimate_photo", "estimate_quality"]
