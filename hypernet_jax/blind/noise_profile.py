"""The noise of a developed raw file, from the noise profile in the file."""

import logging
from pathlib import Path

import numpy as np
import tifffile

__all__ = ["noise_of_file"]

# DNG tags: slope and offset of the variance as a function of the signal, one pair or one for each
# colour; and the sensor's response to white.
_PROFILE, _NEUTRAL = "NoiseProfile", "AsShotNeutral"
# Linear value of mid-grey, the slope of the sRGB curve there, and the share of the deviation left
# after demosaicing.
_GREY, _SLOPE, _LEFT = 0.214, 1.08, 0.95


def noise_of_file(path: Path) -> float | None:
    """Standard deviation at mid-grey, in grey levels, of the picture developed from a DNG file.

    The RMS over the colours after white balance, demosaicing and gamma. The colour matrix is
    ignored.

    Args:
      path: any file.

    Returns:
      A finite number from 0 on, or None if the file is not a DNG or has no usable noise profile.
    """
    if path.suffix.lower() != ".dng":
        return None
    # What is wrong with a file's structure does not concern the user here.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(path) as file:
            found = [_values(page, _PROFILE) for page in _pages(file)]
            neutral = _values(file.pages.first, _NEUTRAL)
    # A damaged file may make the parser raise anything.
    except Exception:
        return None
    profile = next((values for values in found if values is not None), None)
    if profile is None or profile.size not in (2, 6):
        return None
    seen = np.ones(3) if neutral is None or neutral.size != 3 else neutral
    if not (np.isfinite(profile).all() and np.isfinite(seen).all() and (seen > 0).all()):
        return None
    slope, offset = profile.reshape((-1, 2)).T
    with np.errstate(all="ignore"):
        variance = np.maximum(slope * _GREY * seen + offset, 0.0) / np.square(seen)
        deviation = float(255.0 * _SLOPE * _LEFT * np.sqrt(variance.mean()))
    return deviation if np.isfinite(deviation) else None


def _pages(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The first picture and its sub-images: the sensor's image is often one of these."""
    first = file.pages.first
    return [first, *(first.pages or ())]


def _values(page: tifffile.TiffPage, name: str) -> np.ndarray | None:
    tag = page.tags.get(name)
    if tag is None:
        return None
    values = np.asarray(tag.value, np.float64).ravel()
    if tag.dtype not in (5, 10):
        return values
    # Rational numbers are stored as alternating numerators and denominators.
    with np.errstate(all="ignore"):
        return values[::2] / values[1::2]
