"""What an input may be: its size, one still picture, floats from 0 to 1."""

from pathlib import Path

import numpy as np

from hypernet_jax.errors import UserError

__all__ = ["check_limit", "check_still", "check_unit_range"]


def check_limit(path: Path, size: tuple[int, int], limit: float) -> None:
    """Raises `UserError` for an image, (width, height), of more megapixels than allowed."""
    width, height = size
    # Written so that it is true for a limit that is not a number.
    if not width * height <= 1e6 * limit:
        raise UserError(
            f"The image {path} has {width}x{height} pixels, more than {limit:g} megapixels; "
            "allow more with --limit if it is meant to be that large."
        )


def check_still(path: Path, frames: int) -> None:
    """Raises `UserError` for more than one frame or page."""
    if frames > 1:
        raise UserError(
            f"The image {path} has {frames} frames or pages; only still images can be "
            "restored: save one of them as a file."
        )


def check_unit_range(path: Path, samples: np.ndarray) -> None:
    """Raises `UserError` for floating-point samples some of which are not from 0 to 1."""
    low, high = samples.min(), samples.max()
    # Written so that it is true for what is not a number.
    if not (low >= 0 and high <= 1):
        raise UserError(
            f"The image {path} has floating-point samples from {low:g} to {high:g}; "
            "only those from 0 to 1 can be restored: scale them."
        )
