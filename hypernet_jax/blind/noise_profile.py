"""The noise of a developed raw file, by what the file says of its sensor's noise."""

from pathlib import Path

import numpy as np
import tifffile

__all__ = ["noise_of_file"]

# DNG's tags: slope and offset of the variance over the signal, one pair or one for each colour;
# and what the sensor sees of white.
_PROFILE, _NEUTRAL = "NoiseProfile", "AsShotNeutral"
# Light of mid-grey, the slope of sRGB's curve there, and how much of the deviation is left after
# the colours of the mosaic have been interpolated.
_GREY, _SLOPE, _LEFT = 0.214, 1.08, 0.95


def noise_of_file(path: Path) -> float | None:
    """Deviation at mid-grey of the picture that a DNG file is developed to, in grey levels.

    The mean square over the colours, after white balance, interpolation and gamma. The colour
    matrix is left out.

    Returns:
      None if the file is no DNG or says nothing of its noise.
    """
    if path.suffix.lower() != ".dng":
        return None
    try:
        with tifffile.TiffFile(path) as file:
            found = [_values(page, _PROFILE) for page in _pages(file)]
            neutral = _values(file.pages.first, _NEUTRAL)
    # Whatever a damaged file makes of the parser: nothing is known then.
    except Exception:
        return None
    profile = next((values for values in found if values is not None), None)
    if profile is None or profile.size not in (2, 6):
        return None
    seen = np.ones(3) if neutral is None or neutral.size != 3 else neutral
    if not (np.isfinite(profile).all() and np.isfinite(seen).all() and (seen > 0).all()):
        return None
    slope, offset = profile.reshape((-1, 2)).T
    variance = np.maximum(slope * _GREY * seen + offset, 0.0) / np.square(seen)
    return float(255.0 * _SLOPE * _LEFT * np.sqrt(variance.mean()))


def _pages(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """The first picture and those below it: the sensor's own is often one of them."""
    first = file.pages.first
    return [first, *(first.pages or ())]


def _values(page: tifffile.TiffPage, name: str) -> np.ndarray | None:
    tag = page.tags.get(name)
    if tag is None:
        return None
    values = np.asarray(tag.value, np.float64).ravel()
    # Rational numbers come as numerators and denominators in turn.
    return values[::2] / values[1::2] if tag.dtype in (5, 10) else values
