"""The level of an image, by whatever way its task has."""

import dataclasses
from pathlib import Path

import numpy as np

from hypernet_jax.blind.estimator import load_estimator
from hypernet_jax.blind.jpeg_tables import quality_of_file
from hypernet_jax.errors import UserError
from hypernet_jax.levels import LevelScale
from hypernet_jax.tasks import Task

__all__ = ["Estimate", "can_estimate", "estimate_level"]

# Estimators look at no more than this many windows of this side, whatever the image's size,
# and are compiled for it alone; smaller images are continued symmetrically.
_SIDE, _WINDOWS = 128, 9
# Where z is looked up: levels of the scale, at this many points.
_POINTS = 2001


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A level in people's units and how it was found, e.g. "from the file's tables"."""

    level: float
    how: str


def can_estimate(task: Task) -> bool:
    """Whether a task's level can be estimated; that of super-resolution is the user's wish."""
    return not task.enlarges and load_estimator(task.name) is not None


def _windows(pixels: np.ndarray) -> np.ndarray:
    """Windows spread evenly over the image, corners multiples of 8 as the blocks of JPEG are."""
    height, width = pixels.shape[:2]
    below, right = max(0, _SIDE - height), max(0, _SIDE - width)
    if below or right:
        pixels = np.pad(pixels, ((0, below), (0, right), (0, 0)), mode="symmetric")
    per_side = round(_WINDOWS**0.5)
    tops, lefts = (
        np.unique((np.linspace(0, size - _SIDE, per_side) // 8 * 8).astype(int))
        for size in pixels.shape[:2]
    )
    cut = [pixels[t : t + _SIDE, x : x + _SIDE] for t in tops for x in lefts]
    # One compiled shape: repeated in turn, which leaves the mean of small images as it is.
    return np.stack([cut[i % len(cut)] for i in range(_WINDOWS)])


def _level_of(z: float, scale: LevelScale) -> float:
    """The level whose normalised value is nearest to z."""
    levels = np.linspace(scale.low, scale.high, _POINTS)
    return float(levels[np.argmin(np.abs(np.asarray(scale.normalise(levels)) - z))])


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
      UserError: if the task has no estimator.
    """
    if task.name == "dejpeg" and source is not None:
        found = quality_of_file(source)
        if found is not None:
            quality, exact = found
            how = "the quality that the file's own tables say"
            if not exact:
                how = "the nearest to the file's own tables, which are not libjpeg's"
            return Estimate(float(quality), how)
    estimator = None if task.enlarges else load_estimator(task.name)
    if estimator is None:
        raise UserError(
            f"The level of the task {task.name} cannot be estimated; "
            f"give a {task.scale.describe()}."
        )
    params, apply = estimator
    images = np.asarray(pixels, np.float32) / 255.0
    z = float(np.median(np.asarray(apply(params, _windows(images)))))
    scale = task.scale
    return Estimate(_level_of(z, scale), "estimated from the pixels")
