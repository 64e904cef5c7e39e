"""Trains the network that estimates all parts of a level, on its task's degradation."""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hypernet_jax.blind.parts import PartsEstimator, apply_layers
from hypernet_jax.blind.statistics import statistics
from hypernet_jax.data.cache import CachedImages
from hypernet_jax.data.levels import BatchForm, LevelSampler
from hypernet_jax.data.pipeline import Crops, make_pipeline
from hypernet_jax.data.prepare import open_split
from hypernet_jax.degradations import degrade_examples
from hypernet_jax.tasks import Task

__all__ = ["estimator_examples", "train_estimator"]

_SIDE, _TOGETHER = 144, 16
_HIDDEN = (96, 96)


def _degraded_crops(
    task: Task, dataset: str | Path, sampler: LevelSampler, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (degraded crops (N, H, W, 3) in 0..255, levels (N, A)) without end."""
    source = CachedImages(open_split(dataset, "train"), capacity=2**30, name=dataset)
    cut = Crops(_SIDE, recoloured=0.2, grey=0.1, softened=0.5)
    clean = make_pipeline(source, seed=seed, crops=1, cut=cut, sampler=sampler)
    for step, batch in enumerate(clean):
        levels = batch["levels"].reshape((-1, len(task.space)))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), step), len(levels))
        crops = batch["clean"].reshape((-1, *batch["clean"].shape[-3:]))
        named = task.space.named(levels)
        yield degrade_examples(task.degradation, keys, crops, named), levels


def estimator_examples(
    task: Task, dataset: str | Path, *, sampler: LevelSampler, count: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Statistics of degraded crops, (count, F), and their levels, (count, A).

    Args:
      task: provides the degradation and level space.
      dataset: made by `prepare`.
      sampler: ranges of the levels; each crop has its own level.
      count: a multiple of 16.
      seed: seed of crops, levels and degradations.
    """
    form = BatchForm(per="step", own_crops=True)
    sampler = dataclasses.replace(sampler, count=_TOGETHER, fixed=(), form=form)
    batches = _degraded_crops(task, dataset, sampler, seed)
    seen: list[np.ndarray] = []
    levels: list[np.ndarray] = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(count // _TOGETHER):
            images, own = next(batches)
            seen += pool.map(statistics, images)
            levels.append(own)
    return np.stack(seen), np.concatenate(levels)


def train_estimator(
    task: Task,
    seen: np.ndarray,
    levels: np.ndarray,
    *,
    steps: int = 6_000,
    batch: int = 256,
    learning_rate: float = 2e-3,
    held_out: int = 512,
    seed: int = 0,
    report: Callable[[dict[str, float]], None] = lambda errors: None,
) -> PartsEstimator:
    """Trains a network to estimate the parts of a level from the statistics of an image.

    Args:
      task: defines the level space.
      seen, levels: as `estimator_examples` returns them.
      steps, batch: number of steps and batch size, for AdamW on the mean absolute error of z.
      learning_rate: initial value; it decays to zero along a cosine.
      held_out: number of examples, at the end, to measure on.
      seed: seed of the initial parameters and the order of examples.
      report: called at the end with each part's mean error in z on the held-out examples.
    """
    z = np.asarray(task.space.normalise(levels))
    mean, deviation = seen.mean(axis=0), seen.std(axis=0) + 1e-3
    white = ((seen - mean) / deviation).astype(np.float32)
    train = slice(0, len(seen) - held_out)
    sizes = (white.shape[1], *_HIDDEN, z.shape[1])
    keys = jax.random.split(jax.random.key(seed), len(sizes))
    layers: Any = [
        (jax.random.normal(key, (before, after)) * np.sqrt(2 / before), jnp.zeros(after))
        for key, before, after in zip(keys, sizes[:-1], sizes[1:], strict=False)
    ]
    schedule = optax.cosine_decay_schedule(learning_rate, steps)
    optimizer = optax.adamw(schedule, weight_decay=1e-3)
    scale = z[train].std(axis=0)

    def loss_fn(layers, x, y):
        return jnp.mean(jnp.abs(apply_layers(layers, x) - y) / scale)

    @jax.jit
    def step_fn(layers, state, x, y):
        gradient = jax.grad(loss_fn)(layers, x, y)
        updates, state = optimizer.update(gradient, state, layers)
        return optax.apply_updates(layers, updates), state

    rng, state = np.random.default_rng(seed), optimizer.init(layers)
    for _ in range(steps):
        chosen = rng.integers(0, train.stop, batch)
        # A little noise keeps the network from memorising single examples.
        x = white[chosen] + 0.05 * rng.standard_normal((batch, white.shape[1])).astype(np.float32)
        layers, state = step_fn(layers, state, x, z[chosen])
    made = tuple((np.asarray(kernel), np.asarray(bias)) for kernel, bias in layers)
    errors = np.abs(apply_layers(made, white[train.stop :]) - z[train.stop :]).mean(axis=0)
    report(dict(zip(task.space.names, errors.tolist(), strict=True)))
    return PartsEstimator(task.space.names, mean, deviation, made)
