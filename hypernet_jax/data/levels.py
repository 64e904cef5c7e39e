"""The levels of a training step: drawn at random, or fixed."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

__all__ = ["PER", "BatchForm", "LevelSampler"]

# The unit that has its own levels.
PER = ("step", "crop", "pixel")

# One value, or one for each part of the level.
PerAxis = float | Sequence[float]


@dataclasses.dataclass(frozen=True)
class BatchForm:
    """The layout of a batch's arrays.

    Attributes:
      per: "step": all crops share the K levels of a step, (K, A); "crop": each crop has K levels
        of its own, (K, N, A); "pixel": the levels of a crop's pixels lie between two,
        (K, N, 2, A).
      own_crops: each level has its own crops, clean (K, N, H, W, C) and ids (K, N); otherwise
        all levels share them, (N, H, W, C) and (N,).
    """

    per: str = "step"
    own_crops: bool = False

    @property
    def of_crops(self) -> bool:
        """Whether each crop has its own levels."""
        return self.per != "step"


@dataclasses.dataclass(frozen=True)
class LevelSampler:
    """Draws the levels of a training step.

    A single value of an option applies to all parts of the level; a sequence has one for each.

    Attributes:
      low, high: range of drawn levels, in native units.
      count: number of levels to draw for a step.
      power: levels are uniform in their 1/power-th power: 2 makes low levels more frequent.
      whole: probability that a drawn level is rounded to a whole number, for levels that users
        mostly give as whole numbers.
      absent: probability that a part is neutral (no such degradation).
      neutral: the neutral value of each part.
      fixed: (K, A); if not empty, the levels of every step (the published recipe).
      form: layout of the batches.
    """

    low: PerAxis
    high: PerAxis
    count: int
    power: PerAxis = 1.0
    whole: PerAxis = 0.0
    absent: PerAxis = 0.0
    neutral: PerAxis = 0.0
    fixed: tuple[tuple[float, ...], ...] = ()
    form: BatchForm = BatchForm()

    @property
    def levels(self) -> int:
        """The number of levels per step, fixed or drawn."""
        return len(self.fixed) or self.count

    def __call__(self, rng: np.random.Generator, *, crops: int) -> Float32[np.ndarray, "k *s a"]:
        """Draws levels by stratified sampling: `count` strata per part, one draw from each.

        Args:
          rng: generator of the step.
          crops: number of crops per level.

        Returns:
          float32 (K, A); (K, crops, A) with levels per crop; (K, crops, 2, A) with levels per
          pixel, where the second of the two comes from any stratum.

        Stratified draws cover the range in every step, which makes the losses of
        different steps comparable. The strata of different parts are combined at
        random (Latin hypercube sampling).
        """
        if self.fixed:
            return np.asarray(self.fixed, np.float32)
        drawn = self._all_parts(rng, crops)
        if self.form.per != "pixel":
            return drawn
        return np.stack([drawn, rng.permuted(self._all_parts(rng, crops), axis=0)], axis=2)

    def _all_parts(self, rng: np.random.Generator, crops: int) -> np.ndarray:
        options = (self.low, self.high, self.power, self.whole, self.absent, self.neutral)
        parts: list[np.ndarray] = []
        for axis in zip(*np.broadcast_arrays(*map(np.atleast_1d, options)), strict=True):
            parts.append(self._drawn(rng, crops, *map(float, axis), shuffled=bool(parts)))
        return np.stack(parts, axis=-1).astype(np.float32)

    def _drawn(
        self, rng: np.random.Generator, crops: int, low, high, power, whole, absent, neutral,
        *, shuffled: bool,
    ) -> np.ndarray:  # fmt: skip
        """One part of all levels; options that are 0 draw no random numbers."""
        per_crop = self.form.of_crops
        draws = rng.random((self.count, crops) if per_crop else self.count)
        strata = np.arange(self.count)[:, None] if per_crop else np.arange(self.count)
        if shuffled:
            strata = rng.permuted(np.broadcast_to(strata, draws.shape), axis=0)
        position = ((strata + draws) / self.count) ** power
        levels = low + (high - low) * position
        if whole:
            levels = np.where(rng.random(levels.shape) < whole, np.round(levels), levels)
            levels = np.clip(levels, low, high)
        if absent:
            levels = np.where(rng.random(levels.shape) < absent, neutral, levels)
        return levels
