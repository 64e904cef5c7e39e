"""What a degradation level is, per task: range, unit, direction, normalisation.

Levels are in people's units everywhere else (sigma in 0-255 grey levels, JPEG
quality, scale factor). This module alone turns them into the dimensionless `z`
that the hypernetwork's features are made of.
"""

import dataclasses
import math
import reprlib

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from hypernet_jax.errors import UserError

__all__ = [
    "BLUR_SIGMA",
    "JPEG_QUALITY",
    "NOISE_SIGMA",
    "NORMALISATIONS",
    "SCALE_FACTOR",
    "LevelScale",
]


def _published(level):
    """level / 255 for every task, as the published code does."""
    return level / 255.0


def _per_hundred(level):
    return level / 100.0


def _noise_share(level):
    """The share of the noise in what is seen, where detail has a contrast of 25 grey levels.

    0 at sigma 0, 1/2 at 25, 4/5 at 100: steep where a little more noise changes most.
    """
    return level / (level + 25.0)


def _jpeg_error(level):
    """Square root of libjpeg's quantiser scale, 1 at quality 50.

    The standard tables are multiplied by 50/q below quality 50 and by
    (100 - q)/50 above it, and the error of a decoded image grows about as the
    square root of that factor: so restoration strength is close to linear in
    this z where it is far from linear in the quality. 0 at quality 100.

    Held at its value for quality 5 below that: there the tables reach their largest entry
    and change little more, but z would soon double, far outside what is trained.
    """
    quality = jnp.clip(level, 5.0, 100.0)
    factor = jnp.where(quality < 50.0, 50.0 / quality, (100.0 - quality) / 50.0)
    return jnp.sqrt(factor)


def _scale_loss(level):
    """1 - 1/scale: the fraction of each axis' bandwidth that was lost; 0 at scale 1."""
    return 1.0 - 1.0 / level


def _blur_loss(level):
    """The fraction of its contrast that a detail of one pixel (a Gaussian spot of sigma 1) loses.

    0 at sigma 0, and like the error of a blurred image it grows as sigma squared there.
    """
    return level * level / (1.0 + level * level)


NORMALISATIONS = {
    "published": _published,
    "per_hundred": _per_hundred,
    "noise_share": _noise_share,
    "jpeg_error": _jpeg_error,
    "scale_loss": _scale_loss,
    "blur_loss": _blur_loss,
}


@dataclasses.dataclass(frozen=True)
class LevelScale:
    """The meaning of one task's level.

    Attributes:
      quantity: what the level measures, as it stands in messages and on axes.
      unit: its unit, may be empty.
      low: the smallest level that makes sense (inclusive).
      high: the largest level that is accepted (inclusive).
      normalisation: key of `NORMALISATIONS`, level -> z.
      higher_is_worse: whether a higher level means a stronger degradation.
      origin: the level at which z is to be 0; None where the normalisation has its zero.
      far: the level at which z is to be 1; None where the normalisation has its one. Where |z|
        gets much larger than 1, a step of the slopes outweighs one of the base, and both learn
        slowly.
      step: between neighbouring positions of a slider.
    """

    quantity: str
    unit: str
    low: float
    high: float
    normalisation: str
    higher_is_worse: bool = True
    origin: float | None = None
    far: float | None = None
    step: float = 1.0

    def __post_init__(self):
        if self.normalisation not in NORMALISATIONS:
            raise UserError(
                f"Unknown normalisation {self.normalisation!r} of levels; "
                f"choose one of {', '.join(NORMALISATIONS)}."
            )

    def counted(
        self, normalisation: str, *, origin: float | None = None, far: float | None = None
    ) -> "LevelScale":
        """The same level, turned into z in this way; `UserError` for an end outside the range."""
        origin, far = (None if end is None else self.valid(end) for end in (origin, far))
        return dataclasses.replace(self, normalisation=normalisation, origin=origin, far=far)

    def normalise(self, level: ArrayLike):
        """Maps levels in people's units to z, elementwise; any shape, float32."""
        to_z = NORMALISATIONS[self.normalisation]

        def from_origin(level):
            z = to_z(jnp.asarray(level, jnp.float32))
            return z if self.origin is None else z - to_z(jnp.float32(self.origin))

        z = from_origin(level)
        return z if self.far is None else z / from_origin(self.far)

    def check(self, level) -> np.float32:
        """Returns `level` as a float32 scalar, or raises `UserError` with the range.

        The one place where a level from outside is coerced: 25, 25.0, "25" and a
        numpy scalar become the same type, so that they share one compiled trace.
        """
        return np.float32(self.valid(level))

    def valid(self, level) -> float:
        """Returns `level` as the number that was given, for what is not computed in float32.

        Raises:
          UserError: if it is no number, or outside the range, which is compared in float32.
        """
        try:
            value = float(level)
        except (TypeError, ValueError, OverflowError):
            raise UserError(
                f"The level {reprlib.repr(level)} is not a number; give a {self.describe()}."
            ) from None
        with np.errstate(over="ignore"):
            low, single, high = np.array([self.low, value, self.high], np.float32)
        if not math.isfinite(value) or not low <= single <= high:
            raise UserError(f"The level {value:.9g} is out of range; give a {self.describe()}.")
        return value

    @property
    def only(self) -> float | None:
        """The one level that a plain network serves; None where there is a range."""
        return self.low if self.low == self.high else None

    def at(self, level) -> "LevelScale":
        """The scale of a plain network, which serves this one level and no other."""
        value = self.valid(level)
        return dataclasses.replace(self, low=value, high=value)

    def describe(self) -> str:
        """E.g. 'noise sigma from 0 to 100 (8-bit grey levels)'."""
        unit = f" ({self.unit})" if self.unit else ""
        if self.only is not None:
            return f"{self.quantity} of {self.only:g}{unit}, the only one that this network serves"
        return f"{self.quantity} from {self.low:g} to {self.high:g}{unit}"


NOISE_SIGMA = LevelScale("noise sigma", "8-bit grey levels", 0.0, 100.0, "per_hundred", step=0.5)
JPEG_QUALITY = LevelScale(
    "JPEG quality",
    "as libjpeg counts it",
    1.0,
    100.0,
    "jpeg_error",
    higher_is_worse=False,
    far=5.0,  # +0.3 dB after 600 steps over z up to 3.2
)
SCALE_FACTOR = LevelScale("scale factor", "enlargement per side", 1.0, 8.0, "scale_loss", step=0.1)
BLUR_SIGMA = LevelScale("blur sigma", "pixels", 0.0, 4.0, "blur_loss", step=0.1)
