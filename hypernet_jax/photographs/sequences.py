"""Frames of one recording: a common level for all, so that the strength does not flicker."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hypernet_jax.errors import UserError
from hypernet_jax.images.reading import read_photograph
from hypernet_jax.inference.requests import Estimator, resolve_level
from hypernet_jax.levels import Level, LevelRequest
from hypernet_jax.tasks import Task

__all__ = ["SAMPLE", "level_of_frames"]

# The largest number of frames to estimate the level from.
SAMPLE = 9


def level_of_frames(
    task: Task,
    request: LevelRequest,
    frames: Sequence[Path],
    *,
    limit: float,
    estimator: Estimator | None = None,
) -> tuple[Level, str]:
    """The level of all frames, and how it was found.

    Args:
      task: the task of the level.
      request: the level; parts that are "auto" are estimated.
      frames: image files, in order.
      limit: the largest frame, in megapixels.
      estimator: as in `resolve_level`.

    Each estimated part is the median over up to `SAMPLE` evenly spread frames. Unreadable frames
    are skipped.

    Raises:
      UserError: if none of those frames can be read.
    """
    chosen = np.unique(np.linspace(0, len(frames) - 1, SAMPLE).round().astype(int))
    levels: list[Level] = []
    failed: UserError | None = None
    for index in chosen:
        try:
            pixels = read_photograph(frames[index], limit=limit).pixels
            found, _ = resolve_level(task, request, pixels, frames[index], estimator=estimator)
            levels.append(found)
        except UserError as error:
            failed = error
    if not levels:
        raise failed or UserError("There are no frames; give a folder of images.")
    medians = np.median([level.values for level in levels], axis=0)
    count = f"{len(levels)} of {len(frames)} frames" if len(frames) > 1 else "one frame"
    return task.space.parse(
        dict(zip(task.space.names, medians, strict=True))
    ), f"estimated from {count}"
