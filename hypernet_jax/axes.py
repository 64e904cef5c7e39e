"""The axes of levels: what each part of a level measures, its range, unit and mapping to z."""

import dataclasses
import math
import numbers
import reprlib
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float32, Real

from hypernet_jax.errors import UserError, check_name, is_boolean
from hypernet_jax.normalisation import NORMALISATIONS

__all__ = [
    "BLUR_SIGMA",
    "CAMERA_NOISE",
    "JPEG_QUALITY",
    "NOISE_SIGMA",
    "SCALE_FACTOR",
    "LevelAxis",
    "in_full",
]


def in_full(value: float) -> str:
    """The shortest text of a value in float32, in which networks compute."""
    return np.format_float_positional(np.float32(value), trim="-")


@dataclasses.dataclass(frozen=True)
class LevelAxis:
    """One quantity that a level is made of.

    Attributes:
      name: the name of the part in "noise=15,jpeg=40": letters, digits, "_" and "-".
      quantity: what it measures, for messages and the axes of plots.
      unit: its unit; may be empty.
      low: the smallest accepted value (inclusive).
      high: the largest accepted value (inclusive).
      neutral: the value for an undegraded image, and the default for a part that is not given.
      normalisation: key of `NORMALISATIONS`, value -> z.
      higher_is_worse: whether a higher value means a stronger degradation.
      origin: the value mapped to z = 0; None keeps the zero of the normalisation.
      far: the value mapped to z = 1; None keeps the scale of the normalisation. Where |z| is
        much larger than 1, updates of the slopes outweigh those of the base, and both learn
        slowly.
      step: the increment of a slider.

    Raises:
      UserError: if one of them is not valid.
    """

    name: str
    quantity: str
    unit: str
    low: float
    high: float
    neutral: float
    normalisation: str
    higher_is_worse: bool = True
    origin: float | None = None
    far: float | None = None
    step: float = 1.0

    def __post_init__(self):
        if not isinstance(self.normalisation, str) or self.normalisation not in NORMALISATIONS:
            raise UserError(
                f"Unknown normalisation {self.normalisation!r} of levels; "
                f"choose one of {', '.join(NORMALISATIONS)}."
            )
        name = self.name
        if isinstance(name, str) and name.lower() == "auto":
            raise UserError("No axis can be called auto, which stands for an estimate.")
        check_name("The axis of a level", name)
        values = (self.low, self.high, self.neutral, self.step)
        if not all(isinstance(each, numbers.Real) and math.isfinite(each) for each in values):
            raise UserError(
                f"low, high, neutral and step of the axis {name} must be finite numbers."
            )
        # A plain network's axis has a single value, and keeps the rest.
        if self.low > self.high or (self.low < self.high and not self._holds(self.neutral)):
            raise UserError(
                f"The axis {name} needs low <= neutral <= high, not {self.low:g}, "
                f"{self.neutral:g}, {self.high:g}."
            )
        for called, end in (("origin", self.origin), ("far", self.far)):
            if end is not None and not (isinstance(end, numbers.Real) and math.isfinite(end)):
                raise UserError(
                    f"The {called} of the axis {name} must be a finite number or None, not {end!r}."
                )
        if self.step <= 0:
            raise UserError(f"The step of the axis {name} must be positive, not {self.step:g}.")

    def _holds(self, value: float) -> bool:
        return self.low <= value <= self.high

    def counted(
        self, normalisation: str, *, origin: float | None = None, far: float | None = None
    ) -> "LevelAxis":
        """The same axis with another mapping to z.

        Raises:
          UserError: if `origin` or `far` is outside the range, or z is 0 or infinite at `far`.
        """
        origin, far = (None if end is None else self.valid(end) for end in (origin, far))
        made = dataclasses.replace(self, normalisation=normalisation, origin=origin, far=None)
        z = None if far is None else abs(float(made.normalise(far)))
        if z is not None and not 0 < z < math.inf:
            raise UserError(
                f"With the normalisation {normalisation}, z is {z:g} at far={far:g}, where it "
                "should become 1; choose a level for far at which z is another."
            )
        return dataclasses.replace(made, far=far)

    def normalise(self, value: Real[ArrayLike, "*n"]) -> Float32[Array, "*n"]:
        """Maps values in native units to z, elementwise; any shape; returns float32."""
        to_z = NORMALISATIONS[self.normalisation]

        def from_origin(value):
            z = to_z(jnp.asarray(value, jnp.float32))
            return z if self.origin is None else z - to_z(jnp.float32(self.origin))

        z = from_origin(value)
        return z if self.far is None else z / from_origin(self.far)

    def values_at(self, z: Real[ArrayLike, "*n"]) -> np.ndarray:
        """The inverse of `normalise`, limited to the range; accurate to 1e-3 in z."""
        # Denser at both ends, where z may be steep.
        shares = np.linspace(0.0, 1.0, 2001)
        shares = np.unique(np.concatenate([shares, shares**2, 1.0 - shares**2]))
        values = self.low + (self.high - self.low) * shares
        found = np.asarray(self.normalise(values))
        order = np.argsort(found, kind="stable")
        return np.interp(np.asarray(z), found[order], values[order])

    def value_at(self, z: float) -> float:
        """As `values_at`, for one number."""
        return float(self.values_at(z))

    def scaled(self, value: float, strengths: ArrayLike) -> np.ndarray:
        """Values `strengths` times as far from the neutral value, in z, as `value` is."""
        # z is not always zero at the neutral value.
        zero, z = (float(self.normalise(each)) for each in (self.neutral, value))
        return self.values_at(zero + np.asarray(strengths) * (z - zero))

    def valid(self, value: Any) -> float:
        """Returns `value` as a number.

        Raises:
          UserError: if it is not a number, or is outside the range when compared in float32.
        """
        try:
            number = float("" if is_boolean(value) else value)
        except (TypeError, ValueError, OverflowError):
            raise UserError(
                f"The level {reprlib.repr(value)} is not a number; give {self.with_article()}."
            ) from None
        with np.errstate(over="ignore"):
            low, single, high = np.array([self.low, number, self.high], np.float32)
        if not math.isfinite(number) or not low <= single <= high:
            raise UserError(f"The level {number:.9g} is out of range; give {self.with_article()}.")
        return number

    def limited(self, value: float) -> float:
        """The nearest value of the range."""
        return min(max(float(value), self.low), self.high)

    @property
    def only(self) -> float | None:
        """The single value that a plain network serves; None if there is a range."""
        return self.low if self.low == self.high else None

    @property
    def default(self) -> float:
        """The value for a part that is not given."""
        return self.neutral if self.only is None else self.only

    def describe(self) -> str:
        """E.g. 'noise sigma from 0 to 100 (8-bit grey levels)'."""
        unit = f" ({self.unit})" if self.unit else ""
        if self.only is not None:
            level = f"{self.quantity} of {in_full(self.only)}{unit}"
            return f"{level}, the only one that this network serves"
        return f"{self.quantity} from {self.low:g} to {self.high:g}{unit}"

    def with_article(self) -> str:
        """E.g. 'a noise sigma from 0 to 100 (8-bit grey levels)'."""
        article = "an" if self.quantity[:1].lower() in tuple("aeiou") else "a"
        return f"{article} {self.describe()}"

    def measured(self) -> str:
        """The quantity and its unit, e.g. 'noise sigma, 8-bit grey levels'."""
        return f"{self.quantity}, {self.unit}" if self.unit else self.quantity


NOISE_SIGMA = LevelAxis(
    "noise", "noise sigma", "8-bit grey levels", 0.0, 100.0, 0.0, "per_hundred", step=0.5
)
JPEG_QUALITY = LevelAxis(
    "jpeg",
    "JPEG quality",
    "as libjpeg counts it",
    1.0,
    100.0,
    100.0,
    "jpeg_error",
    higher_is_worse=False,
    far=5.0,  # +0.3 dB after 600 steps over z up to 3.2
)
SCALE_FACTOR = LevelAxis(
    "scale", "scale factor", "enlargement per side", 1.0, 8.0, 1.0, "scale_loss", step=0.1
)
CAMERA_NOISE = LevelAxis(
    "noise", "noise", "8-bit grey levels at mid-grey", 0.0, 75.0, 0.0, "per_hundred", step=0.5
)
BLUR_SIGMA = LevelAxis("blur", "blur sigma", "pixels", 0.0, 4.0, 0.0, "blur_loss", step=0.1)
