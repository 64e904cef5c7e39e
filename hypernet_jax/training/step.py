"""The training state and one step of it, as pure functions."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from hypernet_jax.model import Model
from hypernet_jax.training.optimizer import ema_decay

__all__ = ["TrainState", "degrade_batch", "init_state", "make_train_step"]

# {"step": int32, "theta": pytree, "ema": pytree like theta, "opt_state": pytree}
TrainState = dict[str, Any]


def init_state(key: jax.Array, model: Model, optimizer: optax.GradientTransformation) -> TrainState:
    """A fresh training state; the parameter average starts at the parameters."""
    theta = model.init(key)
    return {
        "step": jnp.zeros((), jnp.int32),
        "theta": theta,
        # A copy: the step donates the state, and a buffer cannot be donated twice.
        "ema": jax.tree.map(jnp.copy, theta),
        "opt_state": optimizer.init(theta),
    }


def degrade_batch(key: jax.Array, model: Model, batch: dict) -> tuple[jax.Array, jax.Array]:
    """Degrades every clean crop to every level.

    Args:
      key: PRNG key; each level gets its own share of it.
      batch: as `make_pipeline` yields it.

    Returns:
      clean (N, H, W, C) and degraded (K, N, H, W, C), float32, in [0, 1] but for noise
      that is not clipped.
    """
    clean, levels = batch["clean"], batch["levels"]
    if "degraded" in batch:
        degraded = batch["degraded"]
    else:
        keys = jax.random.split(key, levels.shape[0])
        degrade = jax.vmap(model.task.degrade, in_axes=(0, None, 0))
        degraded = degrade(keys, clean, levels)
    return clean.astype(jnp.float32) / 255.0, degraded.astype(jnp.float32) / 255.0


def level_loss(model: Model, theta, levels, clean, degraded) -> tuple[jax.Array, jax.Array]:
    """L1 averaged over levels, crops and pixels; also the mean squared error per level."""
    restored = model.restore_levels(theta, levels, degraded)
    error = restored - clean[None]
    mse = jnp.mean(jnp.square(jnp.clip(restored, 0.0, 1.0) - clean[None]), axis=(1, 2, 3, 4))
    return jnp.mean(jnp.abs(error)), mse


def make_train_step(
    *, model: Model, optimizer: optax.GradientTransformation, seed: int, decay: float
) -> Callable[[TrainState, dict], tuple[TrainState, dict[str, jax.Array]]]:
    """Returns `step(state, batch) -> (state, metrics)`, jit-compiled, state donated.

    The noise of a step depends on (seed, step) alone, so that a resumed run
    repeats what an uninterrupted one does. Metrics: loss, psnr (mean over
    levels, of this batch), gradient_norm.
    """
    base_key = jax.random.key(seed)

    def step(state: TrainState, batch: dict) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(base_key, state["step"])
        clean, degraded = degrade_batch(key, model, batch)

        def loss_fn(theta):
            return level_loss(model, theta, batch["levels"], clean, degraded)

        (loss, mse), gradient = jax.value_and_grad(loss_fn, has_aux=True)(state["theta"])
        updates, opt_state = optimizer.update(gradient, state["opt_state"], state["theta"])
        theta = optax.apply_updates(state["theta"], updates)
        rate = 1.0 - ema_decay(state["step"], decay)
        new_state = {
            "step": state["step"] + 1,
            "theta": theta,
            "ema": optax.incremental_update(theta, state["ema"], rate),
            "opt_state": opt_state,
        }
        metrics = {
            "loss": loss,
            "psnr": jnp.mean(-10.0 * jnp.log10(mse + 1e-10)),
            "gradient_norm": optax.tree.norm(gradient),
        }
        return new_state, metrics

    return jax.jit(step, donate_argnums=0)
