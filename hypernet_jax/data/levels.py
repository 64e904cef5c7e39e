"""The levels of one training step: drawn at random, or fixed."""

import dataclasses
from collections.abc import Sequence

import numpy as np

__all__ = ["PER", "BatchForm", "LevelSampler"]

# What has a level of its own.
PER = ("step", "crop", "pixel")

# One value, or one for each part of the level.
PerAxis = float | Sequence[float]


@dataclasses.dataclass(frozen=True)
class BatchForm:
    """What the axes of a batch's arrays are.

    Attributes:
      per: "step": the K levels of a step serve all crops, levels are (K, A); "crop": each crop is
        degraded to K levels of its own, (K, N, A); "pixel": a crop's pixels have levels between
        two, (K, N, 2, A).
      own_crops: every level has crops of its own, clean (K, N, H, W, C) and ids (K, N); else all
        have the same ones, (N, H, W, C) and (N,).
    """

    per: str = "step"
    own_crops: bool = False

    @property
    def of_crops(self) -> bool:
        """Whether crops have levels of their own."""
        return self.per != "step"


@dataclasses.dataclass(frozen=True)
class LevelSampler:
    """The levels of one training step.

    Options of one value hold for all parts of the level; a sequence gives one for each.

    Attributes:
      low, high: range that levels are drawn from, in native units.
      count: how many levels are drawn for a step.
      power: levels are drawn evenly in their 1/power-th power: 2 makes low levels more frequent.
      whole: the chance of a drawn level to be rounded to a whole number, for levels that people
        mostly ask for as whole numbers.
      absent: the chance of a part to be neutral, as it is in an image that is not degraded so.
      neutral: the value of such a part.
      fixed: (K, A), if not empty, the levels of every step (the published recipe).
      form: of the batches.
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
        """How many levels each crop is degraded to, fixed or drawn."""
        return len(self.fixed) or self.count

    def __call__(self, rng: np.random.Generator, *, crops: int) -> np.ndarray:
        """One level per stratum of each part: `count` ranges of it, one draw from each.

        Args:
          rng: generator of the step.
          crops: crops that each level restores.

        Returns:
          float32 (K, A); (K, crops, A) with a level per crop; (K, crops, 2, A) with a level per
          pixel, the second two drawn from any stratum.

        Stratified draws cover the range in every step, so that the loss of one
        step can be compared with the next. The strata of one part are joined to those of the
        others at random (Latin hypercube sampling).
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
        """One part of all levels; nothing is drawn that no option asks for."""
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
