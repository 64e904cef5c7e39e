"""Exports models to StableHLO: one serialised file that needs only JAX, on any platform."""

from typing import cast

import jax
import jax.numpy as jnp
from jax import export

from hypernet_jax.hypernet import Theta
from hypernet_jax.interchange.portable import check_level_map, is_plain, level_shape
from hypernet_jax.model import Model
from hypernet_jax.networks import spec_of

__all__ = ["export_stablehlo"]

_PLATFORMS = ("cpu", "cuda", "tpu")


def export_stablehlo(model: Model, theta: Theta, *, level_map: bool = False) -> bytes:
    """Serialises the model; `jax.export.deserialize(...).call(image, level)` runs it.

    image is (batch, height, width, colours), float32 in [0, 1], of any size; level a float32
    scalar in native units, or a vector of its parts, whose range is not checked; the result is not
    clipped. A plain network takes only the image. With `level_map`, level is (batch, height,
    width, parts), a level for each pixel. The weights are part of the file.

    Raises:
      UserError: with `level_map`, if the model does not support level maps.
    """
    network = model.network
    multiple = spec_of(network).multiple_of
    batch, height, width = export.symbolic_shape("batch, height, width")
    image = jax.ShapeDtypeStruct((batch, height, width, model.colours), jnp.float32)
    level = jax.ShapeDtypeStruct(level_shape(model), jnp.float32)

    def completed(image: jax.Array) -> jax.Array:
        # As in `apply_network`, but the size is symbolic, so the padding is not known yet.
        for axis in (1, 2):
            size = image.shape[axis]
            places = jnp.arange(multiple * ((size + multiple - 1) // multiple)) % (2 * size)
            image = jnp.take(image, jnp.minimum(places, 2 * size - 1 - places), axis=axis)
        return image

    def apply(image: jax.Array, params: dict) -> jax.Array:
        restored = cast(jax.Array, network.apply({"params": params}, completed(image)))
        return restored[:, : image.shape[1], : image.shape[2]]

    if level_map:
        check_level_map(model)
        parts = len(model.task.space)
        level = jax.ShapeDtypeStruct((batch, height, width, parts), jnp.float32)

        def restore_pixels(image, level):
            restored = model.restore_pixels(theta, completed(level), completed(image))
            return restored[:, : image.shape[1], : image.shape[2]]

        exported = export.export(jax.jit(restore_pixels), platforms=_PLATFORMS)(image, level)
        return bytes(exported.serialize())
    if is_plain(model):
        params = model.generate(theta, model.task.space.high.array)

        def restore_plain(image):
            return apply(image, params)

        exported = export.export(jax.jit(restore_plain), platforms=_PLATFORMS)(image)
    else:

        def restore(image, level):
            return apply(image, model.generate(theta, level))

        exported = export.export(jax.jit(restore), platforms=_PLATFORMS)(image, level)
    return bytes(exported.serialize())
