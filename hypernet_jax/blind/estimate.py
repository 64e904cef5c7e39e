"""The level of an image, by whatever way its task has."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hypernet_jax.blind.jpeg_tables import quality_of_file
from hypernet_jax.blind.noise import noise_sigma
from hypernet_jax.blind.recompression import quality_of_pixels
from hypernet_jax.errors import UserError
from hypernet_jax.tasks import Task

__all__ = ["Estimate", "can_estimate", "estimate_level"]


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A level in people's units and how it was found, e.g. "from the file's tables"."""

    level: float
    how: str


def _estimate_noise(pixels: np.ndarray, source: Path | None) -> Estimate:
    del source
    return Estimate(noise_sigma(pixels), "estimated from the pixels")


def _estimate_quality(pixels: np.ndarray, source: Path | None) -> Estimate:
    found = None if source is None else quality_of_file(source)
    if found is not None:
        quality, exact = found
        how = "the quality that the file's own tables say"
        if not exact:
            how = "the nearest to the file's own tables, which are not libjpeg's"
        return Estimate(float(quality), how)
    level = quality_of_pixels(pixels)
    if level is None:
        raise UserError(
            "The image shows no trace of JPEG compression from its corner on, perhaps because "
            "it was cropped or resized since; give its level, the JPEG quality from 1 to 100."
        )
    return Estimate(level, "estimated from the pixels")


# Super-resolution has none: the scale is the user's wish.
_ESTIMATORS: dict[str, Callable[[np.ndarray, Path | None], Estimate]] = {
    "denoise": _estimate_noise,
    "dejpeg": _estimate_quality,
}


def can_estimate(task: Task) -> bool:
    """Whether a task's level can be estimated."""
    return task.name in _ESTIMATORS


def estimate_level(task: Task, pixels: np.ndarray, *, source: Path | None = None) -> Estimate:
    """Estimates how degraded an image is.

    Args:
      task: what degraded it.
      pixels: (H, W, C) in 0..255, C = 1 or 3.
      source: the file that the pixels are from, if any: a JPEG file's own tables say its
        quality exactly, provided that it was compressed once.

    Returns:
      The level and how it was found.

    Raises:
      UserError: if the task has no estimator, or the image does not show its level.
    """
    if not can_estimate(task):
        raise UserError(
            f"The level of the task {task.name} cannot be estimated; "
            f"give a {task.scale.describe()}."
        )
    return _ESTIMATORS[task.name](pixels, source)
