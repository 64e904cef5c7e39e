"""The training input pipeline: deterministic from one seed, random access, resumable.

Every random choice hangs on the seed and on the position in the stream, never
on a thread, so the number of threads does not change what is seen.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import grain
import numpy as np

from hypernet_jax.errors import UserError
from hypernet_jax.metrics import luminance

__all__ = ["LevelSampler", "make_pipeline", "to_colours"]


@dataclasses.dataclass(frozen=True)
class LevelSampler:
    """The levels of one training step.

    Attributes:
      low, high: range that levels are drawn from, in people's units.
      count: how many levels are drawn for a step.
      power: levels are drawn evenly in their 1/power-th power: 2 makes low levels more frequent.
      whole: the chance of a drawn level to be rounded to a whole number, for levels that people
        mostly ask for as whole numbers.
      fixed: if not empty, the levels of every step (the published recipe).
      per_crop: draw `count` levels for every crop instead of every step.
      own_crops: every level restores crops of its own instead of the same ones.
    """

    low: float
    high: float
    count: int
    power: float = 1.0
    whole: float = 0.0
    fixed: tuple[float, ...] = ()
    per_crop: bool = False
    own_crops: bool = False

    @property
    def levels(self) -> int:
        """How many levels each crop is degraded to, fixed or drawn."""
        return len(self.fixed) or self.count

    def __call__(self, rng: np.random.Generator, *, crops: int) -> np.ndarray:
        """One float32 level per stratum: `count` parts of the range, one draw from each.

        Args:
          rng: generator of the step.
          crops: crops that each level restores.

        Returns:
          (count,), or (count, crops) with `per_crop`.

        Stratified draws cover the range in every step, so that the loss of one
        step can be compared with the next.
        """
        if self.fixed:
            return np.asarray(self.fixed, np.float32)
        draws = rng.random((self.count, crops) if self.per_crop else self.count)
        strata = np.arange(self.count)[:, None] if self.per_crop else np.arange(self.count)
        position = ((strata + draws) / self.count) ** self.power
        levels = self.low + (self.high - self.low) * position
        if self.whole:
            levels = np.where(rng.random(levels.shape) < self.whole, np.round(levels), levels)
            levels = np.clip(levels, self.low, self.high)
        return levels.astype(np.float32)


def to_colours(image: np.ndarray, colours: int) -> np.ndarray:
    """Makes (H, W, C) grey (its luminance) or RGB; uint8."""
    if image.shape[-1] == colours:
        return image
    if colours == 1:
        return luminance(image)
    return np.repeat(image, 3, axis=-1)


class _RandomCrop(grain.transforms.RandomMap):
    """A random crop, flipped and transposed at random: the eight symmetries of the square.

    A share `grey` of the crops in colour loses it.
    """

    def __init__(self, size: int, colours: int, grey: float):
        self._size, self._colours, self._grey = size, colours, grey

    def random_map(self, element: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
        image, size = element["image"], self._size
        if min(image.shape[:2]) < size:
            raise UserError(
                f"A stored sub-image is {image.shape[1]}x{image.shape[0]} pixels, smaller than "
                f"config.data.crop_size={size}; lower it or prepare the dataset again."
            )
        top = rng.integers(image.shape[0] - size + 1)
        left = rng.integers(image.shape[1] - size + 1)
        crop = image[top : top + size, left : left + size]
        if rng.random() < 0.5:
            crop = crop[::-1]
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        if rng.random() < 0.5:
            crop = crop.transpose(1, 0, 2)
        crop = to_colours(np.ascontiguousarray(crop), self._colours)
        # Nothing is drawn where nothing is asked: earlier runs go on with the same crops.
        if self._grey and self._colours == 3 and rng.random() < self._grey:
            crop = np.repeat(luminance(crop), 3, axis=-1)
        return crop


def _with_id(position: int, crop: np.ndarray) -> dict[str, Any]:
    """Names a crop by its position in the whole stream, the same in any split of it."""
    return {"clean": crop, "ids": np.int32(position % 2**31)}


class _AddLevels(grain.transforms.RandomMap):
    """Joins the step's levels to its crops and, for host degradations, the degraded crops."""

    def __init__(
        self, sampler: LevelSampler, degrade: Callable | None, *, process: int, processes: int
    ):
        self._sampler, self._degrade = sampler, degrade
        self._process, self._processes = process, processes

    def random_map(
        self, element: dict[str, np.ndarray], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        if self._sampler.own_crops:
            count = self._sampler.levels
            element = {
                name: x.reshape((count, len(x) // count, *x.shape[1:]))
                for name, x in element.items()
            }
        clean = element["clean"]
        crops = clean.shape[-4]
        # Every process draws from the same generator: all have the same levels, or with
        # `per_crop` each has those of its own crops.
        levels = self._sampler(rng, crops=crops * self._processes)
        if self._sampler.per_crop:
            levels = np.ascontiguousarray(levels[:, self._process :: self._processes])
        batch = {**element, "levels": levels}
        if self._degrade is not None:
            # The crops of each level, be they the same or not.
            cleans = np.broadcast_to(clean, (len(levels), *clean.shape[-4:]))
            batch["degraded"] = np.stack([*map(self._degraded, cleans, levels)])
        return batch

    def _degraded(self, clean: np.ndarray, level: np.ndarray) -> np.ndarray:
        """All crops at one level, or each at its own."""
        assert self._degrade is not None
        if level.ndim == 0:
            return self._degrade(None, clean, level)
        crops = zip(clean, level, strict=True)
        return np.stack([self._degrade(None, crop, own) for crop, own in crops])


def make_pipeline(
    source,
    *,
    seed: int,
    crops: int,
    crop_size: int,
    colours: int,
    sampler: LevelSampler,
    grey: float = 0.0,
    degrade: Callable | None = None,
    threads: int = 2,
    process: int = 0,
    processes: int = 1,
):
    """An endless, checkpointable iterator over training batches.

    Args:
      source: random access to {"image": uint8 (H, W, 3)} records.
      seed: decides everything.
      crops: clean crops per step and level (in this process).
      crop_size: side of a crop.
      colours: 3, or 1 to convert to grey.
      sampler: draws the levels of a step.
      grey: share of the crops that are made grey, if `colours` is 3.
      degrade: a host degradation (key, image, level); None if the device does it.
      threads: reading threads; no effect on what is read.
      process, processes: this process' share; no record is seen twice in an epoch.

    Yields:
      {"clean": uint8 (crops, H, W, C), "ids": int32 (crops,), "levels": float32 (K,), or
      (K, crops) if drawn per crop} and, with `degrade`, "degraded": uint8 (K, crops, H, W, C).
      With `sampler.own_crops` clean and ids have a first axis of levels too.
    """
    dataset = (
        grain.MapDataset.source(source)
        .seed(seed)
        .shuffle()
        .repeat()
        .random_map(_RandomCrop(crop_size, colours, grey))
        .map_with_index(_with_id)[process::processes]
        .batch(crops * (sampler.levels if sampler.own_crops else 1), drop_remainder=True)
        .random_map(_AddLevels(sampler, degrade, process=process, processes=processes))
    )
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2, 2 * threads))
    return iter(dataset.to_iter_dataset(options))
