"""Checks on inputs: size, number of frames, and range of floats."""

from pathlib import Path

import numpy as np

from hypernet_jax.errors import UserError

__all__ = ["check_limit", "check_still", "check_tile", "check_unit_range"]

# Pixels of the largest tile that is read in an image of any size.
_USUAL_TILE = 4096 * 4096


def check_limit(path: Path, size: tuple[int, int], limit: float) -> None:
    """Raises `UserError` if an image (width, height) has more than `limit` megapixels."""
    width, height = size
    # Written so that it is also true for a limit of NaN.
    if not width * height <= 1e6 * limit:
        raise UserError(
            f"The image {path} has {width}x{height} pixels, more than {limit:g} megapixels; "
            "reduce it, or allow more with --limit, where there is that option."
        )


def check_tile(path: Path, tile: tuple[int, int], size: tuple[int, int]) -> None:
    """Raises `UserError` for tiles far larger than the image, whose decoding fills the memory.

    Args:
      path: the image.
      tile: (width, height) of its tiles.
      size: (width, height) of the image.
    """
    if tile[0] * tile[1] > max(_USUAL_TILE, size[0] * size[1]):
        raise UserError(
            f"The image {path} has tiles of {tile[0]}x{tile[1]} pixels for {size[0]}x{size[1]} "
            "pixels; save it again with smaller tiles, or as a PNG."
        )


def check_still(path: Path, frames: int) -> None:
    """Raises `UserError` if there is more than one frame or page."""
    if frames > 1:
        raise UserError(
            f"The image {path} has {frames} frames or pages, but only still images can be "
            "restored; save one of them as a file."
        )


def check_unit_range(samples: np.ndarray, path: Path | None = None) -> None:
    """Raises `UserError` if floating-point samples are not all from 0 to 1.

    Args:
      samples: of an image.
      path: the image's file, if it has one.
    """
    image = "The image" if path is None else f"The image {path}"
    low, high = samples.min(), samples.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{image} has samples that are not finite numbers; replace them.")
    if low < 0 or high > 1:
        raise UserError(
            f"{image} has floating-point samples from {low:.9g} to {high:.9g}; "
            "scale or clip them to the range from 0 to 1."
        )
