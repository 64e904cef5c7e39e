"""Degrades and restores the crops of a batch."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Key, Real

from hypernet_jax.data.levels import BatchForm
from hypernet_jax.degradations import degrade_example, example_key
from hypernet_jax.hypernet import Theta
from hypernet_jax.model import Model
from hypernet_jax.tasks import Task
from hypernet_jax.training.level_maps import random_blobs

__all__ = ["degrade_batch", "restore_batch"]

# Folded into a crop's key to draw its level map.
_BLOBS = 1


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


def restore_batch(
    model: Model,
    theta: Theta,
    levels: Real[Array, "k *s a"],
    degraded: Float32[Array, "k n h w c"],
    form: BatchForm,
) -> Float32[Array, "k n h w c"]:
    """Restores degraded crops, each at its own level.

    Args:
      model: of the network.
      theta: the hypernetwork's parameters.
      levels, degraded: as `degrade_batch` returns them.
      form: of the batch.
    """
    if form.per == "step":
        return model.restore_levels(theta, levels, degraded)
    flat = degraded.reshape((-1, *degraded.shape[2:]))
    each = levels.reshape((len(flat), *levels.shape[2:]))
    restore_flat = model.restore_pixels if form.per == "pixel" else model.restore_each
    return restore_flat(theta, each, flat).reshape(degraded.shape)
