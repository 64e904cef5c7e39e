"""Resolves a requested level: fills in estimates from the image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hypernet_jax.blind.parts import ESTIMATE_SIDE
from hypernet_jax.errors import UserError
from hypernet_jax.images.limits import check_unit_range
from hypernet_jax.inference.sources import unit_of
from hypernet_jax.levels import Level
from hypernet_jax.tasks import Task

__all__ = ["Estimator", "resolve_level"]

# (H, W, C) float32 in [0, 1] -> level of one axis.
Estimator = Callable[[np.ndarray], float]


def resolve_level(
    task: Task,
    level: Any,
    pixels: np.ndarray,
    source: Path | None,
    *,
    estimator: Estimator | None = None,
) -> tuple[Level, str | None]:
    """Returns the level and how it was estimated; None if it was given.

    Args:
      task: the task of the level.
      level: as `LevelSpace.request` takes it.
      pixels: (H, W, C), uint8, uint16 or float in [0, 1].
      source: the file that the pixels came from.
      estimator: replaces the task's own estimator.

    Raises:
      UserError: if the level is not valid, or to be estimated and the pixels are not such an image,
        or the estimator cannot tell.
    """
    request = task.space.request(level)
    if not request.estimated:
        return request.level(), None
    if task.space.only is not None:
        raise UserError(
            f"This network serves only the level {task.space.low}; give that instead of auto."
        )
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or not pixels.size:
        raise UserError(
            f"The level is estimated from an image (H, W, 3) or (H, W, 1), not {pixels.shape}."
        )
    # The middle is enough: a very large image in float32 would take too much memory. Its corner
    # is at a multiple of 16 pixels, to stay aligned with JPEG's blocks of halved chrominance.
    middle = tuple(
        slice(max(0, length - ESTIMATE_SIDE) // 32 * 16, None) for length in pixels.shape[:2]
    )
    pixels = pixels[middle][:ESTIMATE_SIDE, :ESTIMATE_SIDE]
    if np.issubdtype(pixels.dtype, np.floating):
        check_unit_range(pixels)
    pixels = pixels.astype(np.float32) * np.float32(255.0 / unit_of(pixels.dtype))
    if estimator is not None:
        own = task.space.parse(estimator(pixels / 255))
        return request.level(own.named), "estimated by the given network"
    found = task.estimate_level(pixels, source=source)
    return request.level(found.parts), found.describe(request.estimated)
