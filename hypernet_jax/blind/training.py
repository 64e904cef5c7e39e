"""Training a level estimator: a few minutes on two CPU cores."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm

from hypernet_jax.blind.estimator import apply_estimator, init_estimator
from hypernet_jax.data.pipeline import LevelSampler, make_pipeline
from hypernet_jax.data.prepare import open_split
from hypernet_jax.tasks import Task
from hypernet_jax.training.step import degrade_batch

__all__ = ["train_estimator"]


def train_estimator(
    key: jax.Array,
    task: Task,
    dataset: Path,
    *,
    steps: int = 3000,
    crops: int = 16,
    crop_size: int = 128,
    channels: int = 24,
    learning_rate: float = 2e-3,
    low: float | None = None,
    high: float | None = None,
    grey_every: int = 4,
    progress: bool = True,
) -> dict:
    """Trains an estimator of a task's normalised level.

    Args:
      key: decides everything.
      task: degrades the crops.
      dataset: a folder made by `prepare_dataset`.
      steps: Adam steps, cosine schedule.
      crops: crops per step, each at a level of its own.
      crop_size: side of a crop.
      channels: width of the network.
      learning_rate: at its peak.
      low, high: range of levels; the task's own if None.
      grey_every: every so many steps the crops are grey (three equal channels).
      progress: draw a progress bar.

    Returns:
      The parameters. The loss is the mean |z - z_true|.
    """
    scale = task.scale
    sampler = LevelSampler(
        scale.low if low is None else low,
        scale.high if high is None else high,
        count=1,
        per_crop=True,
    )
    colour, grey = (
        make_pipeline(
            open_split(dataset, "train"),
            seed=int(jax.random.randint(key, (), 0, 2**31 - 1)),
            crops=crops,
            crop_size=crop_size,
            colours=colours,
            sampler=sampler,
            degrade=None if task.on_device else task.degrade,
        )
        for colours in (3, 1)
    )
    params = init_estimator(key, colours=3, channels=channels)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, min(100, steps // 10), steps, learning_rate / 100
    )
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, batch):
        def loss(params):
            _, degraded = degrade_batch(key, task, batch)
            images, levels = degraded[0], batch["levels"][0]
            return jnp.mean(jnp.abs(apply_estimator(params, images) - scale.normalise(levels)))

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    losses = []
    with tqdm.trange(steps, desc=f"{task.name} estimator", disable=not progress) as bar:
        for index in bar:
            params, state, value = step(
                params, state, next(colour if (index + 1) % grey_every else grey)
            )
            losses.append(value)
            if index % 100 == 99:
                bar.set_postfix_str(f"loss {np.mean(losses[-100:]):.4f}")
    return params
