"""The training state and the training step, as pure functions."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec
from jax.typing import ArrayLike
from jaxtyping import Array, Float32, Key, Real

from hypernet_jax.data.levels import BatchForm
from hypernet_jax.degradations import degrade_example, example_key
from hypernet_jax.errors import UserError
from hypernet_jax.hypernet import Theta
from hypernet_jax.model import Model
from hypernet_jax.tasks import Task
from hypernet_jax.training.balance import balanced
from hypernet_jax.training.level_maps import random_blobs
from hypernet_jax.training.mesh import AXES, batch_specs
from hypernet_jax.training.optimizer import ema_decay

__all__ = ["LOSSES", "WEIGHTINGS", "TrainState", "degrade_batch", "init_state", "make_train_step"]

# Where the Charbonnier loss changes from quadratic to linear: a quarter of a grey level.
_EPSILON = 1e-3


def _charbonnier(error: ArrayLike) -> jax.Array:
    return jnp.sqrt(jnp.square(error) + _EPSILON**2) - _EPSILON


# The cost of an error; see `make_train_step`.
LOSSES = {"charbonnier": _charbonnier, "l1": jnp.abs, "l2": jnp.square}
# One grey level: keeps levels with almost no error, such as sigma 0, from taking all the weight.
_SMALLEST_ERROR = 1 / 255

# Folded into a crop's key to draw its level map.
_BLOBS = 1

# How the losses of a step's levels are averaged; see `make_train_step`.
WEIGHTINGS = ("equal", "relative")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The state of a training run, a pytree.

    Attributes:
      step: number of steps done, int32.
      theta: the hypernetwork's parameters.
      ema: their average, a tree like theta.
      opt_state: of the optimizer.
    """

    step: jax.Array
    theta: Theta
    ema: Theta
    opt_state: optax.OptState


def init_state(theta: Theta, optimizer: optax.GradientTransformation) -> TrainState:
    """The initial training state; the parameter average starts at the parameters."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        theta=theta,
        # A copy: the step donates the state, and a buffer cannot be donated twice.
        ema=jax.tree.map(jnp.copy, theta),
        opt_state=optimizer.init(theta),
    )


def degrade_batch(
    key: Key[Array, ""],
    task: Task,
    batch: dict,
    form: BatchForm,
    *,
    first_level: int | jax.Array = 0,
) -> tuple[Float32[Array, "_ n h w c"], Float32[Array, "k n h w c"], Real[Array, "k *s a"]]:
    """Degrades every clean crop to every level.

    Args:
      key: PRNG key of the run. A crop's degradation depends only on this key, the crop's id and
        the index of its level, not on its position in a batch.
      task: defines the degradation.
      batch: as `make_pipeline` yields it, or a device's share of it.
      form: of the batch.
      first_level: index of the share's first level.

    Returns:
      clean (1, N, H, W, C), or (K, N, H, W, C) if each level has its own crops, and
      degraded (K, N, H, W, C); float32, in [0, 1] except for unclipped noise. The levels,
      as in the batch, or (K, N, H, W, A) for levels per pixel.
    """
    clean, levels, ids = batch["clean"], batch["levels"], batch["ids"]
    if "degraded" in batch:
        degraded = batch["degraded"]
    else:

        def degrade(number, level, crop_id, image):
            crop_key = example_key(key, number, crop_id)

            def at(level):
                return degrade_example(task.degradation, crop_key, image, task.space.named(level))

            if form.per != "pixel":
                return at(level), level
            share = random_blobs(jax.random.fold_in(crop_key, _BLOBS), image.shape[:2])[..., None]
            both = [at(each).astype(jnp.float32) for each in level]
            return both[0] + share * (both[1] - both[0]), level[0] + share * (level[1] - level[0])

        over_crops = jax.vmap(degrade, in_axes=(None, 0 if form.of_crops else None, 0, 0))
        crops_axis = 0 if form.own_crops else None
        over_levels = jax.vmap(over_crops, in_axes=(0, 0, crops_axis, crops_axis))
        numbers = first_level + jnp.arange(levels.shape[0])
        degraded, drawn = over_levels(numbers, levels, ids, clean)
        if form.per == "pixel":
            levels = drawn
    if not form.own_crops:
        clean = clean[None]
    return clean.astype(jnp.float32) / 255.0, degraded.astype(jnp.float32) / 255.0, levels


def _level_losses(
    cost: Callable, restore: Callable, theta, levels, clean, degraded
) -> tuple[jax.Array, jax.Array]:
    """Loss and mean squared error of each level, averaged over its crops and pixels; (K,) each."""
    restored = restore(theta, levels, degraded)
    losses = jnp.mean(cost(restored - clean), axis=(1, 2, 3, 4))
    mse = jnp.mean(jnp.square(jnp.clip(restored, 0.0, 1.0) - clean), axis=(1, 2, 3, 4))
    return losses, mse


def make_train_step(
    *,
    model: Model,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    seed: int,
    decay: float,
    form: BatchForm,
    loss: str = "l1",
    weighting: str = "equal",
    balance: float = 0.0,
    shardings: Any = None,
) -> Callable[[TrainState, dict], tuple[TrainState, dict[str, jax.Array]]]:
    """Returns `step(state, batch) -> (state, metrics)`, jit-compiled, state donated.

    Args:
      model: the model to train.
      optimizer: an Optax transformation.
      mesh: devices; batches are placed by `place_batch`.
      seed: of the degradations.
      decay: of the parameter average.
      form: of the batches.
      loss: "l1", the mean absolute error, as published; "l2", the mean squared error, which
        determines PSNR; or "charbonnier" (Lai et al., CVPR 2017), like l1 but smooth for errors
        below a quarter of a grey level, where the gradient of l1 does not shrink.
      weighting: "equal": minimises the mean of the levels' losses. "relative": weights each
        level's loss by its inverse, held constant, which gives the gradient of its logarithm. A
        decibel is then worth the same at every level; equal weights learn the low levels, which
        have small errors, last.
      balance: strength of `balance.keep_balanced`, over the crops of a level on a device; over
        all crops there if levels are drawn per crop or pixel.
      shardings: shardings of the new state (`state_shardings`); None: chosen by the compiler,
        which replicates the state if the old one is replicated.

    The devices exchange one vector per step, the mean of gradients and metrics; also theta, if it
    is split over them, and for relative weights the K losses.
    Metrics: loss (the unweighted mean over levels), psnr (the mean over the levels of this
    batch), gradient_norm.
    """
    if loss not in LOSSES:
        raise UserError(f"Unknown config.loss {loss!r}; choose one of {', '.join(LOSSES)}.")
    if weighting not in WEIGHTINGS:
        raise UserError(
            f"Unknown config.levels.weighting {weighting!r}; choose one of {', '.join(WEIGHTINGS)}."
        )
    key, cost = jax.random.key(seed), LOSSES[loss]
    smallest = float(cost(_SMALLEST_ERROR))

    def restore(theta, levels, degraded):
        groups = len(levels) if form.per == "step" and model.level_form == "wide" else 1
        with balanced(model.network, balance, groups=groups):
            return restore_freely(theta, levels, degraded)

    def restore_freely(theta, levels, degraded):
        if form.per == "step":
            return model.restore_levels(theta, levels, degraded)
        flat = degraded.reshape((-1, *degraded.shape[2:]))
        each = levels.reshape((len(flat), *levels.shape[2:]))
        restore_flat = model.restore_pixels if form.per == "pixel" else model.restore_each
        return restore_flat(theta, each, flat).reshape(degraded.shape)

    level_shares = mesh.shape["level"]

    def gradient_of_share(theta, batch):
        count = batch["levels"].shape[0]
        first = lax.axis_index("level") * count
        clean, degraded, levels = degrade_batch(key, model.task, batch, form, first_level=first)

        def of_all_levels(values):
            """This share's part of a vector whose mean over devices holds all levels' values."""
            everywhere = jnp.zeros(level_shares * count)
            return everywhere.at[first + jnp.arange(count)].set(values * level_shares)

        def loss_fn(theta):
            losses, mse = _level_losses(cost, restore, theta, levels, clean, degraded)
            if weighting == "equal":
                return jnp.mean(losses), (losses, mse)
            sizes = lax.pmean(of_all_levels(lax.stop_gradient(losses)), AXES) + smallest
            # Scaled so that the weighted mean, and roughly its gradient, is as large as the plain.
            own = lax.dynamic_slice_in_dim(sizes, first, count)
            return jnp.mean(losses / own) * jnp.mean(sizes), (losses, mse)

        (_, (losses, mse)), gradient = jax.value_and_grad(loss_fn, has_aux=True)(theta)
        vector, unravel = ravel_pytree((gradient, jnp.mean(losses), of_all_levels(mse)))
        return unravel(lax.pmean(vector, AXES))

    def step(state: TrainState, batch: dict) -> tuple[TrainState, dict[str, jax.Array]]:
        # With check_vma off, the gradient stays local until our single mean over devices.
        sharded = jax.shard_map(
            gradient_of_share,
            mesh=mesh,
            in_specs=(PartitionSpec(), batch_specs(batch, form)),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
        gradient, mean_loss, mse = sharded(state.theta, batch)
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.theta)
        theta = optax.apply_updates(state.theta, updates)
        rate = 1.0 - ema_decay(state.step, decay)
        new_state = TrainState(
            step=state.step + 1,
            theta=theta,
            # In this form the average of a frozen parameter equals that parameter, bit for bit.
            ema=jax.tree.map(lambda a, x: a + rate * (x - a), state.ema, theta),
            opt_state=opt_state,
        )
        metrics = {
            "loss": mean_loss,
            "psnr": jnp.mean(-10.0 * jnp.log10(mse + 1e-10)),
            "gradient_norm": optax.tree.norm(gradient),
        }
        return new_state, metrics

    return jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))
