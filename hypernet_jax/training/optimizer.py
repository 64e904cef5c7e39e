"""Optax optimizers and schedules from a config."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, muon

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
        # The published recipe: constant, then a tenth after half of the steps.
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
    # The ramp starts one increment above zero, so that the first step has an effect.
    ramp = optax.linear_schedule(peak / warmup, peak, warmup - 1)
    return optax.join_schedules([ramp, main], [warmup])


# RMS of Muon's updates at a learning rate of 1: about that of Adam's, so that both can share a
# learning rate (Liu et al., Muon is scalable for LLM training, 2025).
_MUON_RMS = 0.2


# The groups of theta that hold network parameters, and the first axis of the parameter itself:
# Muon treats each network of a bank as a separate matrix.
_FIRST_AXIS = {"generated": 1, "shared": 0}


def _kernel_axes(theta: Any) -> Any:
    """For each leaf of theta, the axes that Muon takes as rows and columns; None: not a matrix.

    A kernel (3, 3, in, out) is a matrix from 9 in to out.
    """

    def axes(path, leaf) -> MuonDimensionNumbers | None:
        first = _FIRST_AXIS.get(path[0].key)
        if first is None or leaf.ndim - first < 2:
            return None
        return MuonDimensionNumbers(tuple(range(first, leaf.ndim - 1)), (leaf.ndim - 1,))

    return jax.tree_util.tree_map_with_path(axes, theta)


def _biases(theta: Any) -> Any:
    """For each leaf of theta, whether it holds network biases."""

    def is_bias(path, leaf) -> bool:
        first = _FIRST_AXIS.get(path[0].key)
        return first is not None and leaf.ndim - first == 1

    return jax.tree_util.tree_map_with_path(is_bias, theta)


def make_optimizer(config, steps: int) -> optax.GradientTransformation:
    """Adam, or Muon for kernels with Adam for the rest, after clipping by global norm (0: none).

    Muon (Jordan et al., 2024) makes the singular values of each kernel's update equal. With it
    the learning rate of biases is multiplied by `config.bias_rate`.

    Args:
      config: `config.optimizer`.
      steps: length of the run.
    """
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    schedule = make_schedule(config, steps)
    kinds = {
        "adam": lambda: optax.adam(schedule, b1=config.b1, b2=config.b2),
        "muon": lambda: optax.chain(
            muon(
                schedule,
                adam_b1=config.b1,
                adam_b2=config.b2,
                muon_weight_dimension_numbers=_kernel_axes,
                consistent_rms=_MUON_RMS,
            ),
            optax.masked(optax.scale(config.bias_rate), _biases),
        ),
    }
    if config.name not in kinds:
        raise UserError(
            f"Unknown config.optimizer.name {config.name!r}; choose one of {', '.join(kinds)}."
        )
    return optax.chain(clip, kinds[config.name]())


def ema_decay(step: jax.Array, decay: float) -> jax.Array:
    """Decay of the parameter average; smaller at the start, to forget the initial values."""
    return jnp.minimum(decay, (1.0 + step) / (10.0 + step))
