"""Optax optimizers and schedules from a config."""

import jax
import jax.numpy as jnp
import optax

from hypernet_jax.errors import UserError

__all__ = ["ema_decay", "make_optimizer", "make_schedule"]


def make_schedule(config, steps: int) -> optax.Schedule:
    """Learning rate by step: linear warm-up, then `config.schedule`.

    Args:
      config: `config.optimizer`.
      steps: length of the run.
    """
    peak, warmup = config.learning_rate, min(config.warmup_steps, steps // 2)
    rest = max(1, steps - warmup)
    schedules = {
        "cosine": lambda: optax.cosine_decay_schedule(peak, rest, alpha=config.final_fraction),
        # The published recipe: constant, then a tenth from half-way on.
        "halfway": lambda: optax.piecewise_constant_schedule(peak, {steps // 2 - warmup: 0.1}),
        "constant": lambda: optax.constant_schedule(peak),
    }
    if config.schedule not in schedules:
        raise UserError(
            f"Unknown config.optimizer.schedule {config.schedule!r}; "
            f"choose one of {', '.join(schedules)}."
        )
    main = schedules[config.schedule]()
    if not warmup:
        return main
    # The first step already moves: the ramp starts one increment above zero.
    ramp = optax.linear_schedule(peak / warmup, peak, warmup - 1)
    return optax.join_schedules([ramp, main], [warmup])


def make_optimizer(config, steps: int) -> optax.GradientTransformation:
    """Adam with gradient clipping by global norm (0: none)."""
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(clip, optax.adam(make_schedule(config, steps), b1=config.b1, b2=config.b2))


def ema_decay(step: jax.Array, decay: float) -> jax.Array:
    """Decay of the parameter average, shorter at the start to forget the initial values."""
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))
