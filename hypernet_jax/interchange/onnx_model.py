"""A model as ONNX: the level goes in beside the image, and kernels are made in the graph."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import onnx

from hypernet_jax.hypernet import Theta
from hypernet_jax.interchange.onnx_graph import Graph
from hypernet_jax.interchange.onnx_jaxpr import Value, translate
from hypernet_jax.interchange.portable import is_plain
from hypernet_jax.model import Model
from hypernet_jax.networks import spec_of

__all__ = ["export_onnx"]


def export_onnx(model: Model, theta: Theta, *, metadata: dict[str, Any]) -> onnx.ModelProto:
    """Builds the model, checked.

    Inputs "image" (batch, colours, height, width), float32 in [0, 1], of any size, and "level", a
    float32 scalar in native units, not checked for its range; output "restored" of the image's
    shape, not clipped. A plain network takes the image alone.

    Raises:
      UserError: where the network or the features of the level have no translation.
    """
    network, plain = model.network, is_plain(model)
    multiple = spec_of(network).multiple_of
    graph = Graph()

    # Sides are continued to a multiple of the stride and cut back at the end.
    size = graph.op("Shape", "image", start=2, end=4)
    image = _completed(graph, "image", size, multiple)
    # Traced with sizes that nothing else has.
    traced = jax.ShapeDtypeStruct((1, 6 * multiple, 7 * multiple, model.colours), jnp.float32)
    inputs = [(Value(traced.shape, lambda: image, is_image=True), traced)]
    if not plain:
        scalar = jax.ShapeDtypeStruct((), jnp.float32)
        inputs.append((Value((), lambda: "level"), scalar))

    def restore(image: jax.Array, level: jax.Array | float = model.task.scale.high) -> jax.Array:
        params = model.generate(theta, level)
        return cast(jax.Array, network.apply({"params": params}, image))

    restored = translate(graph, restore, *inputs).name(graph)
    starts, axes = (graph.constant(np.array(pair, np.int64)) for pair in ([0, 0], [2, 3]))
    restored = graph.op("Slice", restored, starts, size, axes)

    shape = ("batch", model.colours, "height", "width")
    described: list[Any] = [("image", shape)]
    if not plain:
        described.append(("level", ()))
    return graph.model(inputs=described, output=(restored, "restored", shape), metadata=metadata)


def _completed(graph: Graph, image: str, size: str, multiple: int) -> str:
    """The image continued symmetrically at the bottom and right to multiples of `multiple`."""
    if multiple == 1:
        return image

    def integers(*values: int) -> str:
        return graph.constant(np.array(values, np.int64))

    zero, one = (graph.constant(np.int64(value)) for value in (0, 1))
    for axis in (2, 3):
        length = graph.op("Slice", size, integers(axis - 2), integers(axis - 1))
        over = graph.op("Mod", length, integers(multiple))
        missing = graph.op("Mod", graph.op("Sub", integers(multiple), over), integers(multiple))
        stop = graph.op("Squeeze", graph.op("Add", length, missing), integers(0))
        # Forth and back, again and again.
        period = graph.op("Mul", length, integers(2))
        forth = graph.op("Mod", graph.op("Range", zero, stop, one), period)
        back = graph.op("Sub", graph.op("Sub", period, integers(1)), forth)
        image = graph.op("Gather", image, graph.op("Min", forth, back), axis=axis)
    return image
