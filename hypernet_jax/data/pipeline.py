"""The training input pipeline: random access, resumable, and determined by one seed.

Every random choice depends only on the seed and the position in the stream, so
the number of threads does not change the batches.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import grain
import jax
import numpy as np

from hypernet_jax.data.augmentation import (
    change_colours,
    darken,
    random_crop,
    random_view,
    soften,
    without_colour,
)
from hypernet_jax.data.levels import LevelSampler
from hypernet_jax.degradations import Chain, degrade_examples, example_key
from hypernet_jax.errors import UserError
from hypernet_jax.images.channels import to_colours
from hypernet_jax.levels import LevelSpace

__all__ = ["Crops", "balanced", "check_host_device", "make_pipeline"]


@dataclasses.dataclass(frozen=True)
class Crops:
    """How crops are cut from the photographs.

    Attributes:
      size: side of a crop.
      colours: number of channels, 3, or 1 for grey.
      grey: share of crops that lose their colour, if `colours` is 3.
      recoloured: share of crops with changed colours (`change_colours`).
      darkened: share of crops that become dark scenes (`darken`).
      softened: share of crops that are softened before the degradation (`soften`).
    """

    size: int
    colours: int = 3
    grey: float = 0.0
    recoloured: float = 0.0
    darkened: float = 0.0
    softened: float = 0.0


class _RandomCrop(grain.transforms.RandomMap):
    """Cuts a random crop and augments it."""

    def __init__(self, crops: Crops):
        self._crops = crops

    def random_map(self, element: dict[str, Any], rng: np.random.Generator) -> np.ndarray:
        image, crops = element["image"], self._crops
        if min(image.shape[:2]) < crops.size:
            raise UserError(
                f"A stored sub-image is {image.shape[1]}x{image.shape[0]} pixels, smaller than "
                f"config.data.crop_size={crops.size}; lower it or prepare the dataset again."
            )
        crop = random_view(rng, random_crop(rng, image, crops.size))
        # Options that are 0 draw no random numbers.
        if crops.recoloured and crop.shape[-1] == 3 and rng.random() < crops.recoloured:
            crop = change_colours(rng, crop)
        if crops.darkened and rng.random() < crops.darkened:
            crop = darken(rng, crop)
        if crops.softened and rng.random() < crops.softened:
            crop = soften(rng, crop)
        crop = to_colours(crop, crops.colours)
        if crops.grey and crops.colours == 3 and rng.random() < crops.grey:
            crop = without_colour(crop)
        return crop


def _with_id(position: int, crop: np.ndarray) -> dict[str, Any]:
    """Adds an id: the crop's position in the whole stream, independent of any split."""
    return {"clean": crop, "ids": np.int32(position % 2**31)}


class _AddLevels(grain.transforms.RandomMap):
    """Adds the levels of a step to its crops."""

    def __init__(self, sampler: LevelSampler, *, process: int, processes: int):
        self._sampler = sampler
        self._process, self._processes = process, processes

    def random_map(
        self, element: dict[str, np.ndarray], rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        sampler = self._sampler
        if sampler.form.own_crops:
            count = sampler.levels
            element = {
                name: x.reshape((count, len(x) // count, *x.shape[1:]))
                for name, x in element.items()
            }
        crops = element["clean"].shape[-4]
        # All processes draw the same levels from the same generator; with levels per crop, each
        # takes those of its own crops.
        levels = sampler(rng, crops=crops * self._processes)
        if sampler.form.of_crops:
            levels = np.ascontiguousarray(levels[:, self._process :: self._processes])
        return {**element, "levels": levels}


class _Degrade(grain.transforms.Map):
    """Degrades the crops of a batch on the host."""

    def __init__(self, chain: Chain, space: LevelSpace, sampler: LevelSampler, seed: int):
        self._chain, self._space, self._form, self._seed = chain, space, sampler.form, seed

    def map(self, element: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        clean, levels, ids = element["clean"], element["levels"], element["ids"]
        count, crops = len(levels), clean.shape[-4]
        clean = np.broadcast_to(clean, (count, *clean.shape[-4:])).reshape((-1, *clean.shape[-3:]))
        ids = np.broadcast_to(ids, (count, crops)).ravel()
        numbers = np.repeat(np.arange(count), crops)
        if self._form.per == "step":
            levels = np.broadcast_to(levels[:, None], (count, crops, levels.shape[-1]))
        named = self._space.named(levels.reshape((count * crops, -1)))
        # Traceable operators also run on the CPU here, to leave the accelerator undisturbed.
        with jax.default_device(_host_device()):
            keys = None
            if self._chain.random:
                keys = _example_keys(jax.random.key(self._seed), numbers, ids)
            degraded = degrade_examples(self._chain, keys, clean, named)
        degraded = degraded.reshape((count, crops, *clean.shape[-3:]))
        dtype = np.uint8 if self._chain.quantises else np.float32
        return {**element, "degraded": degraded.astype(dtype)}


def _host_device() -> Any:
    return jax.local_devices(backend="cpu")[0]


def check_host_device(task: str) -> None:
    """Raises `UserError` where JAX has no CPU device, on which batches of the task are degraded."""
    try:
        _host_device()
    except RuntimeError:
        raise UserError(
            f"Photographs for the task {task} are degraded on the CPU, which JAX was told to leave "
            "out; add it, as in JAX_PLATFORMS=cuda,cpu or JAX_PLATFORMS=tpu,cpu."
        ) from None


_example_keys = jax.jit(jax.vmap(example_key, in_axes=(None, 0, 0)))


def _records(source, seed: int, largest_share: float, groups: Sequence[str]):
    """All records, shuffled and repeated without end; large groups are sampled less often."""
    if largest_share >= 1.0 or len(set(groups)) < 2:
        return grain.MapDataset.source(source).seed(seed).shuffle().repeat()
    members: dict[str, list[int]] = {}
    for index, group in enumerate(groups):
        members.setdefault(group, []).append(index)
    shares = balanced([len(each) for each in members.values()], largest_share)
    parts = [
        grain.MapDataset.source(_Part(source, each)).seed(seed + number).shuffle().repeat()
        for number, each in enumerate(members.values())
    ]
    return grain.MapDataset.mix(parts, weights=shares).seed(seed)


class _Part:
    """Some records of a source."""

    def __init__(self, source, indices: Sequence[int]):
        self._source, self._indices = source, indices

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int):
        return self._source[self._indices[index]]


def balanced(counts: Sequence[int], largest: float) -> list[float]:
    """Shares in proportion to counts, none above `largest`; equal shares if that is impossible.

    The excess of large shares goes to the others, again in proportion.
    """
    shares = np.asarray(counts, float) / np.sum(counts)
    largest = max(largest, 1.0 / len(counts))
    while np.any(shares > largest + 1e-9):
        full = shares >= largest
        shares[full] = largest
        shares[~full] *= (1.0 - largest * full.sum()) / shares[~full].sum()
    return shares.tolist()


def make_pipeline(
    source,
    *,
    seed: int,
    crops: int,
    cut: Crops,
    sampler: LevelSampler,
    largest_share: float = 1.0,
    groups: Sequence[str] = (),
    degradation: tuple[Chain, LevelSpace] | None = None,
    threads: int = 2,
    process: int = 0,
    processes: int = 1,
):
    """An endless, checkpointable iterator over training batches.

    Args:
      source: random access to {"image": uint8 (H, W, 3)} records.
      seed: seed of all random choices.
      crops: clean crops per step and level (in this process).
      cut: how crops are cut.
      sampler: draws the levels of a step.
      largest_share: largest share of crops from one group of records; see `balanced`.
      groups: the group of each record; empty: all records form one group.
      degradation: a chain to run on the host, and its level space; None if it runs on the device.
      threads: reading threads; they do not affect the batches.
      process, processes: this process's share; no record is seen twice in an epoch.

    Yields:
      {"clean": uint8 (crops, H, W, C), "ids": int32 (crops,), "levels": float32 (K, A)} and, with
      `degradation`, "degraded": (K, crops, H, W, C), uint8 if the chain quantises. With levels
      per crop, levels are (K, crops, A); with levels per pixel, (K, crops, 2, A). If each level
      has its own crops, clean and ids have a leading axis K.
    """
    dataset = (
        _records(source, seed, largest_share, groups)
        .random_map(_RandomCrop(cut))
        .map_with_index(_with_id)[process::processes]
        .batch(crops * (sampler.levels if sampler.form.own_crops else 1), drop_remainder=True)
        .random_map(_AddLevels(sampler, process=process, processes=processes))
    )
    if degradation is not None:
        dataset = dataset.map(_Degrade(*degradation, sampler, seed))
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(2, 2 * threads))
    return iter(dataset.to_iter_dataset(options))
