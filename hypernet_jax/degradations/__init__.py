"""Degradations, clean -> degraded: pure given (key, image, level).

Images are (..., H, W, C) in 8-bit range, 0 to 255; levels are in people's
units. Every degradation has the signature `(key, image, level)`, also where it
is deterministic and the key goes unused, so that a task can hold any of them.
"""

from hypernet_jax.degradations.blur import gaussian_blur
from hypernet_jax.degradations.jpeg import jpeg
from hypernet_jax.degradations.noise import gaussian_noise, gaussian_noise_float
from hypernet_jax.degradations.resize import bicubic_down_up, bicubic_resize

__all__ = [
    "bicubic_down_up",
    "bicubic_resize",
    "gaussian_blur",
    "gaussian_noise",
    "gaussian_noise_float",
    "jpeg",
]
