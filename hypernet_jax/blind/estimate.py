"""Level estimators, (pixels, source) -> estimate, one per kind of degradation.

Pixels are (H, W, C) in 0..255, C = 1 or 3; source is the file that they came from, if any.
"""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hypernet_jax.blind.jpeg_tables import quality_of_file
from hypernet_jax.blind.noise import noise_sigma
from hypernet_jax.blind.noise_profile import noise_of_file
from hypernet_jax.blind.recompression import quality_of_pixels
from hypernet_jax.errors import UserError
from hypernet_jax.levels import PHOTO

__all__ = [
    "Estimate",
    "estimate_noise",
    "estimate_photo",
    "estimate_quality",
    "photo_estimator",
]

_FROM_PIXELS, _BY_PROFILE = "estimated from the pixels", "by the file's own noise profile"
_PHOTO_NETWORK = Path(__file__).parent.parent / "pretrained/estimators/photo.safetensors"


@dataclasses.dataclass(frozen=True)
class Estimate:
    """An estimated level.

    Attributes:
      parts: values in native units by name of axis; ranges are not checked.
      how: how each was found, by name of axis, e.g. "from the file's own tables".
    """

    parts: dict[str, float]
    how: dict[str, str]

    def describe(self, names: Sequence[str]) -> str:
        """How some of the parts were found; names them only if that differs."""
        ways: dict[str, list[str]] = {}
        for name in names:
            ways.setdefault(self.how[name], []).append(name)
        if len(ways) == 1 and len(names) == len(self.parts):
            return next(iter(ways))
        return ", ".join(f"{' and '.join(own)} {way}" for way, own in ways.items())


def estimate_noise(pixels: np.ndarray, source: Path | None) -> Estimate:
    """Noise sigma, from the noise profile of a raw file if it has one, else from the pixels."""
    found = None if source is None else noise_of_file(source)
    if found is not None:
        return Estimate({"noise": found}, {"noise": _BY_PROFILE})
    return Estimate({"noise": noise_sigma(pixels)}, {"noise": _FROM_PIXELS})


def estimate_quality(pixels: np.ndarray, source: Path | None) -> Estimate:
    """JPEG quality, from the file's quantisation tables if it has any, else from the pixels."""
    found = None if source is None else quality_of_file(source)
    if found is not None:
        quality, exact = found
        how = "the quality that the file's own tables say"
        if not exact:
            how = "the nearest to the file's own tables, which are not libjpeg's"
        return Estimate({"jpeg": float(quality)}, {"jpeg": how})
    level = quality_of_pixels(pixels)
    if level is None:
        raise UserError(
            "The image shows no trace of JPEG compression where it was examined, perhaps because "
            "it was cropped or resized since; give its level, the JPEG quality from 1 to 100."
        )
    return Estimate({"jpeg": level}, {"jpeg": _FROM_PIXELS})


@functools.cache
def photo_estimator():
    """The network of `estimate_photo`, a `PartsEstimator`."""
    # Imported here because it is slow to import.
    from hypernet_jax.blind.parts import load_parts_estimator

    return load_parts_estimator(_PHOTO_NETWORK)


def estimate_photo(pixels: np.ndarray, source: Path | None) -> Estimate:
    """Noise, JPEG quality and blur from the shipped network; quality and noise from the file's
    own tables and noise profile if it has them."""
    parts = photo_estimator().estimate(pixels, PHOTO)
    how = dict.fromkeys(parts, _FROM_PIXELS)
    quality = None if source is None else quality_of_file(source)
    if quality is not None:
        parts["jpeg"] = float(quality[0])
        how["jpeg"] = "from the file's own tables" if quality[1] else "nearest to the file's tables"
    noise = None if source is None else noise_of_file(source)
    if noise is not None:
        parts |= {"noise": noise, "jpeg": 100.0}
        how |= {"noise": _BY_PROFILE, "jpeg": "not compressed"}
    return Estimate(parts, how)
