"""Training the network that estimates all parts of a level, on the chain of its task."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hypernet_jax.blind.parts import PartsEstimator
from hypernet_jax.data.cache import CachedImages
from hypernet_jax.data.levels import BatchForm, LevelSampler
from hypernet_jax.data.pipeline import Crops, make_pipeline
from hypernet_jax.data.prepare import open_split
from hypernet_jax.degradations import Chain
from hypernet_jax.networks.parts_network import PartsNetwork
from hypernet_jax.tasks import Task

__all__ = ["train_estimator"]

_SIDE = 64


def _batches(
    task: Task, dataset: str | Path, sampler: LevelSampler, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Endless (degraded crops (N, H, W, 3) in 0..255, levels (N, A))."""
    source = CachedImages(open_split(dataset, "train"), capacity=2**31, name=dataset)
    clean = make_pipeline(
        source, seed=seed, crops=1, cut=Crops(_SIDE, recoloured=0.2, grey=0.1), sampler=sampler
    )
    operators = task.degradation.operators
    count = next((i for i, each in enumerate(operators) if not each.traceable), len(operators))
    # What can be traced, for all crops at once; the rest one by one.
    traced, host = Chain(*operators[:count]), operators[count:]
    together = jax.jit(jax.vmap(lambda key, image, level: traced(key, image, level)))
    for step, batch in enumerate(clean):
        levels = batch["levels"].reshape((-1, len(task.space)))
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), step), len(levels))
        crops = batch["clean"].reshape((-1, *batch["clean"].shape[-3:]))
        images = np.asarray(together(keys, crops, task.space.named(levels)))
        if host:
            rest = Chain(*host)
            images = np.stack(
                [
                    rest(None, one, task.space.named(x))
                    for one, x in zip(images, levels, strict=True)
                ]
            )
        yield images, levels


def train_estimator(
    task: Task,
    dataset: str | Path,
    *,
    sampler: LevelSampler,
    steps: int,
    crops: int = 32,
    learning_rate: float = 2e-3,
    seed: int = 0,
    report: Callable[[int, dict[str, float]], None] = lambda step, values: None,
) -> PartsEstimator:
    """Trains a network to see the parts of a task's level in crops of degraded photographs.

    Args:
      task: whose degradation and levels.
      dataset: made by `prepare`.
      sampler: ranges of the levels; each crop has one of its own.
      steps, crops: of training, and of each step.
      learning_rate: of Adam at first; it falls to zero as a cosine.
      seed: of everything.
      report: called every 100 steps with the mean error of each part in z.

    The loss is the Gaussian's negative logarithm, so that a crop that shows little of a part
    learns to say so.
    """
    form = BatchForm(per="step", own_crops=True)
    sampler = LevelSampler(
        sampler.low, sampler.high, crops, sampler.power, sampler.whole, sampler.absent,
        sampler.neutral, form=form,
    )  # fmt: skip
    network = PartsNetwork(len(task.space))
    params = network.init(jax.random.key(seed), jnp.zeros((1, _SIDE, _SIDE, 3)))["params"]
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def loss_fn(params: Any, images: jax.Array, levels: jax.Array):
        z, deviation = network.apply({"params": params}, images / 255.0)
        error = z - task.space.normalise(levels)
        likelihood = jnp.square(error) * jnp.exp(-2.0 * deviation) / 2.0 + deviation
        return jnp.mean(likelihood), jnp.mean(jnp.abs(error), axis=0)

    @jax.jit
    def step_fn(params, state, images, levels):
        (_, errors), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params, images, levels)
        gradient = jax.tree.map(lambda g: jnp.clip(g, -1.0, 1.0), gradient)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, errors

    state, mean = optimizer.init(params), np.zeros(len(task.space))
    batches = _batches(task, dataset, sampler, seed)
    for step in range(steps):
        params, state, errors = step_fn(params, state, *next(batches))
        mean = mean + np.asarray(errors) / 100
        if (step + 1) % 100 == 0:
            report(step + 1, dict(zip(task.space.names, mean.tolist(), strict=True)))
            mean = np.zeros(len(task.space))
    return PartsEstimator(task.space.names, network, params)
