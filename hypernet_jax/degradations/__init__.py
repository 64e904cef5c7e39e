"""Degradations, clean -> degraded: pure functions of (key, image, value).

Images are (..., H, W, C) in 8-bit range, 0 to 255. A degradation takes a PRNG key, a float image
and one number in native units, and returns a float image. In a `Chain` each operator takes its
own part of the level.
"""

import dataclasses

from hypernet_jax.degradations.blur import gaussian_blur
from hypernet_jax.degradations.camera import camera_noise, photo_noise
from hypernet_jax.degradations.chain import (
    Chain,
    Operator,
    degrade_example,
    degrade_examples,
    example_key,
)
from hypernet_jax.degradations.jpeg import cropped_jpeg, jpeg
from hypernet_jax.degradations.noise import gaussian_noise
from hypernet_jax.degradations.quantise import quantise
from hypernet_jax.degradations.resize import bicubic_down_up, bicubic_reduce, bicubic_resize
from hypernet_jax.degradations.slight import slight_compression, slight_damage

__all__ = [
    "BLUR",
    "CAMERA_JPEG",
    "CROPPED_JPEG",
    "DOWN_UP",
    "JPEG",
    "NOISE",
    "PHOTO_NOISE",
    "QUANTISE",
    "SENSOR_NOISE",
    "SLIGHT_COMPRESSION",
    "SLIGHT_DAMAGE",
    "Chain",
    "Operator",
    "bicubic_down_up",
    "bicubic_reduce",
    "bicubic_resize",
    "camera_noise",
    "cropped_jpeg",
    "degrade_example",
    "degrade_examples",
    "example_key",
    "gaussian_blur",
    "gaussian_noise",
    "jpeg",
    "photo_noise",
    "quantise",
    "slight_compression",
    "slight_damage",
]

BLUR = Operator(gaussian_blur, axis="blur")
NOISE = Operator(gaussian_noise, axis="noise", random=True)
JPEG = Operator(jpeg, axis="jpeg", traceable=False, quantises=True)
CROPPED_JPEG = dataclasses.replace(JPEG, function=cropped_jpeg, random=True)
DOWN_UP = Operator(bicubic_down_up, axis="scale", traceable=False)
SENSOR_NOISE = Operator(camera_noise, axis="noise", random=True)
PHOTO_NOISE = Operator(photo_noise, axis="noise", random=True)
# Quality 100 means an uncompressed photograph here.
CAMERA_JPEG = dataclasses.replace(JPEG, absent_at=100.0)
QUANTISE = Operator(quantise, quantises=True)
SLIGHT_COMPRESSION = Operator(
    slight_compression, axis="noise", random=True, traceable=False, quantises=True
)
SLIGHT_DAMAGE = Operator(slight_damage, random=True, traceable=False, quantises=True)
