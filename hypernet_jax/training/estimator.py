"""Trains the network that estimates all parts of a level, on its task's degradation."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float16, Float32, Key, Real

from hypernet_jax.blind.parts import PartsEstimator, apply_layers, weighted_mean
from hypernet_jax.blind.statistics import statistics
from hypernet_jax.data.cache import CachedImages
from hypernet_jax.data.levels import BatchForm, LevelSampler
from hypernet_jax.data.pipeline import Crops, make_pipeline
from hypernet_jax.data.prepare import open_split
from hypernet_jax.degradations import degrade_examples
from hypernet_jax.tasks import Task

__all__ = ["averaged", "estimator_examples", "train_estimator"]

_CROPS = Crops(144, recoloured=0.3, grey=0.08, darkened=0.25)
_TOGETHER = 16
_HIDDEN = 96
# The network estimates log(1 + gain z), where errors count in proportion once gain z exceeds 1.
_GAIN = {"noise": 100.0, "jpeg": 3.0, "blur": 10.0}
# The quantile that is learned where the image leaves the level open; the median if not given.
_QUANTILE = {"noise": 0.8}
# The lower quartile of the tiles, which counts for blur, is too low by this factor in z.
_QUARTILE = {"blur": 1.08}


def _degraded_crops(
    task: Task, dataset: str | Path, sampler: LevelSampler, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (degraded crops (N, H, W, 3) in 0..255, levels (N, A)) without end."""
    source = CachedImages(open_split(dataset, "train"), capacity=2**30, name=dataset)
    clean = make_pipeline(source, seed=seed, crops=1, cut=_CROPS, sampler=sampler)
    for step, batch in enumerate(clean):
        levels = batch["levels"].reshape((-1, len(task.space)))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), step), len(levels))
        crops = batch["clean"].reshape((-1, *batch["clean"].shape[-3:]))
        named = task.space.named(levels)
        yield degrade_examples(task.degradation, keys, crops, named), levels


def estimator_examples(
    task: Task,
    dataset: str | Path,
    *,
    sampler: LevelSampler,
    count: int,
    seed: int = 0,
    saved: Callable[[np.random.Generator, np.ndarray], np.ndarray] = lambda rng, image: image,
) -> tuple[Float16[np.ndarray, "count rows columns f"], Real[np.ndarray, "count a"]]:
    """Statistics of degraded crops, and their levels.

    Args:
      task: provides the degradation and level space.
      dataset: made by `prepare`.
      sampler: ranges of the levels; each crop has its own level.
      count: a multiple of 16.
      seed: seed of crops, levels and degradations.
      saved: from a random generator and a degraded crop, (H, W, 3) in 0..255, to what a file of
        it holds; for files that the task's degradation does not make.
    """
    form = BatchForm(per="step", own_crops=True)
    sampler = dataclasses.replace(sampler, count=_TOGETHER, fixed=(), form=form)
    batches = _degraded_crops(task, dataset, sampler, seed)
    seen: list[np.ndarray] = []
    levels: list[np.ndarray] = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(count // _TOGETHER):
            images, own = next(batches)
            rngs = np.random.default_rng([seed, len(seen)]).spawn(len(images))
            held = pool.map(saved, rngs, images)
            seen += pool.map(lambda image: statistics(image).astype(np.float16), held)
            levels.append(own)
    return np.stack(seen), np.concatenate(levels)


def _initial_layers(key: Key[Array, ""], seen: int, parts: int) -> list[tuple[Array, Array]]:
    """Random parameters for `apply_layers`."""
    shapes = ((seen, _HIDDEN), (3, 3, _HIDDEN, _HIDDEN), (_HIDDEN, _HIDDEN), (_HIDDEN, 2 * parts))
    keys = jax.random.split(key, len(shapes))
    layers = []
    for key, shape, gain in zip(keys, shapes, (1.0, 1.0, 1.0, 0.1), strict=True):
        size = gain * np.sqrt(2 / np.prod(shape[:-1]))
        layers.append((size * jax.random.normal(key, shape), jnp.zeros(shape[-1])))
    return layers


def train_estimator(
    task: Task,
    seen: Float16[np.ndarray, "count rows columns f"],
    levels: Real[np.ndarray, "count a"],
    *,
    steps: int = 6_000,
    batch: int = 64,
    learning_rate: float = 2e-3,
    held_out: int = 512,
    seed: int = 0,
    report: Callable[[dict[str, float]], None] = lambda errors: None,
) -> PartsEstimator:
    """Trains a network to estimate the parts of a level from the statistics of an image.

    Args:
      task: defines the level space.
      seen, levels: as `estimator_examples` returns them.
      steps, batch: number of steps and batch size, for AdamW on the quantile loss of
        log(1 + gain z), in standard deviations.
      learning_rate: the highest value; after 100 steps it decays to zero along a cosine.
      held_out: number of examples, at the end, to measure on.
      seed: seed of the initial parameters and the order of examples.
      report: called at the end with each part's mean error in z on the held-out examples.
    """
    gain = np.array([_GAIN[name] for name in task.space.names], np.float32)
    z = np.asarray(task.space.normalise(levels))
    aim = np.log1p(gain * z)
    scale, count = aim.std(axis=0), len(seen) - held_out
    sample = seen[: min(count, 2_000)].astype(np.float32).reshape((-1, seen.shape[-1]))
    mean, deviation = sample.mean(axis=0), sample.std(axis=0) + 1e-2
    of_layers, of_noise = jax.random.split(jax.random.key(seed))
    layers: Any = _initial_layers(of_layers, seen.shape[-1], len(gain))
    schedule = optax.warmup_cosine_decay_schedule(0.0, learning_rate, min(100, steps // 2), steps)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=1e-3)
    )

    def estimate(layers, white: Float32[jax.Array, "n rows columns f"]):
        opinions = apply_layers(layers, white)
        return weighted_mean(opinions.reshape((len(white), -1, opinions.shape[-1])))

    quantile = np.array([_QUANTILE.get(name, 0.5) for name in task.space.names], np.float32)

    def loss_fn(layers, white, aims):
        missing = aims - estimate(layers, white)
        return jnp.mean(2 * jnp.maximum(quantile * missing, (quantile - 1) * missing) / scale)

    @jax.jit
    def step_fn(layers, state, key, cells, aims):
        # Noise keeps the network from relying on what is peculiar to the training noise.
        noise = 0.1 * jax.random.normal(key, cells.shape)
        gradient = jax.grad(loss_fn)(layers, (cells - mean) / deviation + noise, aims)
        updates, state = optimizer.update(gradient, state, layers)
        return optax.apply_updates(layers, updates), state

    rng, state = np.random.default_rng(seed), optimizer.init(layers)
    for step in range(steps):
        chosen = rng.integers(0, count, batch)
        key = jax.random.fold_in(of_noise, step)
        layers, state = step_fn(layers, state, key, seen[chosen].astype(np.float32), aim[chosen])
    made = tuple((np.asarray(kernel), np.asarray(bias)) for kernel, bias in layers)
    found = [np.asarray(estimate(made, (one[None] - mean) / deviation)) for one in seen[count:]]
    errors = np.abs(np.expm1(np.concatenate(found)) / gain - z[count:]).mean(axis=0)
    report(dict(zip(task.space.names, errors.tolist(), strict=True)))
    factors = np.array([_QUARTILE.get(name, 1.0) for name in task.space.names], np.float32)
    return PartsEstimator(task.space.names, gain / factors, mean, deviation, made)


def averaged(estimators: Sequence[PartsEstimator]) -> PartsEstimator:
    """One network whose opinion of a cell is the mean of several estimators' opinions.

    Args:
      estimators: all of the same task, and with the same gain.
    """
    first, count = estimators[0], len(estimators)
    for each in estimators[1:]:
        if each.names != first.names or not np.allclose(each.gain, first.gain):
            raise ValueError("The estimators are of different tasks.")
    # Each network has its own normalisation, which its first kernel takes over.
    entries = []
    for each in estimators:
        kernel, bias = each.layers[0]
        moved = ((first.mean - each.mean) / each.deviation) @ kernel + bias
        entries.append(((first.deviation / each.deviation)[:, None] * kernel, moved))
    entry_kernels, entry_biases = zip(*entries, strict=True)
    inner = [
        (
            _side_by_side([each.layers[number][0] for each in estimators]),
            np.concatenate([each.layers[number][1] for each in estimators]),
        )
        for number in range(1, len(first.layers) - 1)
    ]
    last_kernels, last_biases = zip(*(each.layers[-1] for each in estimators), strict=True)
    layers = (
        (np.concatenate(entry_kernels, axis=1), np.concatenate(entry_biases)),
        *inner,
        (np.concatenate(last_kernels) / count, np.sum(last_biases, axis=0) / count),
    )
    return dataclasses.replace(first, layers=layers)


def _side_by_side(kernels: Sequence[np.ndarray]) -> np.ndarray:
    """Kernels (..., inputs, outputs) on the diagonal of one, which is zero elsewhere."""
    inputs, outputs = (sum(each.shape[axis] for each in kernels) for axis in (-2, -1))
    whole = np.zeros((*kernels[0].shape[:-2], inputs, outputs), kernels[0].dtype)
    row = column = 0
    for each in kernels:
        height, width = each.shape[-2:]
        whole[..., row : row + height, column : column + width] = each
        row, column = row + height, column + width
    return whole
