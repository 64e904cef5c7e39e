"""Keeps the units of a network on both sides of zero while it trains."""

import contextlib
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hypernet_jax.hypernet import path_matches
from hypernet_jax.networks import spec_of

__all__ = ["balanced", "keep_balanced"]

# In standard deviations: how far the mean may be from zero, and where the push stops growing.
_FREE, _LARGEST = 0.5, 2.0


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def keep_balanced(
    strength: float, groups: int, devices: tuple[str, ...], values: Float[Array, "n *s c"]
) -> Float[Array, "n *s c"]:
    """The values themselves; only the gradient changes.

    An activation is linear where all its inputs have the same sign. If the mean of a channel is
    more than half a standard deviation from zero, all gradients of that channel get the same
    push towards zero: `strength` times the root mean square of the gradients of all channels,
    times the number of standard deviations beyond that half, at most 2. This is the gradient of
    a penalty that grows and shrinks with that of the loss, so it needs no schedule.

    Args:
      strength: 0 or more; 0.1 is enough.
      groups: number of equal parts of the first axis that are treated separately.
      devices: axes of the mesh that the values of a group are split over.
      values: inputs of an activation, (N, ..., C). Means and deviations are those over all axes
        but the last.
    """
    del strength, groups, devices
    return values


def _mean(values: jax.Array, axes: tuple[int, ...], devices: tuple[str, ...]) -> jax.Array:
    mean = jnp.mean(values, axis=axes, keepdims=True)
    return lax.pmean(mean, devices) if devices else mean


def _per_group(groups: int, values: jax.Array) -> tuple[jax.Array, tuple[int, ...]]:
    """float32 values as (groups, N / groups, ..., C), and the axes to average over."""
    parts = values.astype(jnp.float32).reshape((groups, -1, *values.shape[1:]))
    return parts, tuple(range(1, parts.ndim - 1))


def _forward(strength, groups, devices, values):
    del strength
    parts, axes = _per_group(groups, values)
    mean = _mean(parts, axes, devices)
    deviation = jnp.sqrt(_mean(jnp.square(parts - mean), axes, devices))
    distance = mean / (deviation + 1e-6)
    return values, jnp.sign(distance) * jnp.clip(jnp.abs(distance) - _FREE, 0.0, _LARGEST)


def _backward(strength, groups, devices, beyond, gradient):
    parts, axes = _per_group(groups, gradient)
    size = jnp.sqrt(_mean(jnp.square(parts), (*axes, parts.ndim - 1), devices))
    pushed = parts + strength * size * beyond
    return (pushed.reshape(gradient.shape).astype(gradient.dtype),)


keep_balanced.defvjp(_forward, _backward)


@contextlib.contextmanager
def balanced(
    network: nn.Module, strength: float, *, groups: int = 1, devices: tuple[str, ...] = ()
):
    """Within it, gradients through the network keep the inputs of its activations balanced.

    Args:
      network: its `spec.activated` names the convolutions whose outputs are activated.
      strength, groups, devices: as for `keep_balanced`; with strength 0 nothing changes.
    """
    activated = path_matches(spec_of(network).activated)

    def intercept(call, args, kwargs, context):
        module, output = context.module, call(*args, **kwargs)
        if (
            isinstance(module, nn.Conv)
            and context.method_name == "__call__"
            and activated("/".join((*module.path, "")))
        ):
            return keep_balanced(strength, groups, devices, output)
        return output

    with nn.intercept_methods(intercept) if strength else contextlib.nullcontext():
        yield
