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
from jaxtyping import Array, Float32

from hypernet_jax.data.levels import BatchForm
from hypernet_jax.errors import UserError
from hypernet_jax.hypernet import Theta
from hypernet_jax.model import Model
from hypernet_jax.training.balance import balanced
from hypernet_jax.training.batches import degrade_batch, restore_batch
from hypernet_jax.training.distillation import Teachers
from hypernet_jax.training.mesh import AXES, batch_specs
from hypernet_jax.training.optimizer import ema_decay

__all__ = ["LOSSES", "WEIGHTINGS", "TrainState", "init_state", "make_train_step"]

# Where the Charbonnier loss changes from quadratic to linear: a quarter of a grey level.
_EPSILON = 1e-3


def _charbonnier(error: ArrayLike) -> jax.Array:
    return jnp.sqrt(jnp.square(error) + _EPSILON**2) - _EPSILON


# The cost of an error; see `make_train_step`.
LOSSES = {"charbonnier": _charbonnier, "l1": jnp.abs, "l2": jnp.square}
# One grey level: keeps levels with almost no error, such as sigma 0, from taking all the weight.
_SMALLEST_ERROR = 1 / 255

# Folded into the run's key to draw the teacher and view of each step; above any level's index,
# which is folded in for the degradations.
_TEACHING = 2**31 - 1

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


def _level_losses(
    cost: Callable,
    restored: Float32[Array, "k n h w c"],
    target: Float32[Array, "_ n h w c"],
    clean: Float32[Array, "_ n h w c"],
) -> tuple[Float32[Array, " k"], Float32[Array, " k"]]:
    """Loss and mean squared error of each level, averaged over its crops and pixels."""
    losses = jnp.mean(cost(restored - target), axis=(1, 2, 3, 4))
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
    teachers: Teachers | None = None,
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
      balance: strength of `balance.keep_balanced`, over the crops of a level; over all crops if
        levels are drawn per crop or pixel.
      teachers: trained networks whose results are a part of the target.
      shardings: shardings of the new state (`state_shardings`); None: chosen by the compiler,
        which replicates the state if the old one is replicated.

    The devices exchange one vector per step, the mean of gradients and metrics; also theta, if it
    is split over them, for relative weights the K losses, and with `balance` a few numbers per
    channel.
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
        devices = ("data",) if form.per == "step" else AXES
        with balanced(model.network, balance, groups=groups, devices=devices):
            return restore_batch(model, theta, levels, degraded, form)

    level_shares = mesh.shape["level"]

    def gradient_of_share(theta, batch, number):
        count = batch["levels"].shape[0]
        first = lax.axis_index("level") * count
        clean, degraded, levels = degrade_batch(key, model.task, batch, form, first_level=first)
        target = clean
        if teachers is not None:
            # The same teacher and view on all devices, so that their number changes nothing.
            drawn = jax.random.fold_in(jax.random.fold_in(key, _TEACHING), number)
            target = teachers.target(drawn, clean, degraded, levels, form)

        def of_all_levels(values):
            """This share's part of a vector whose mean over devices holds all levels' values."""
            everywhere = jnp.zeros(level_shares * count)
            return everywhere.at[first + jnp.arange(count)].set(values * level_shares)

        def loss_fn(theta):
            losses, mse = _level_losses(cost, restore(theta, levels, degraded), target, clean)
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
            in_specs=(PartitionSpec(), batch_specs(batch, form), PartitionSpec()),
            out_specs=PartitionSpec(),
            check_vma=False,
        )
        gradient, mean_loss, mse = sharded(state.theta, batch, state.step)
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
