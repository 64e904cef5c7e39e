"""Exports models to ONNX: image and level are inputs, and kernels are generated in the graph."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from flax import traverse_util

from hypernet_jax.hypernet import Theta
from hypernet_jax.interchange.onnx_features import PixelFeatures
from hypernet_jax.interchange.onnx_graph import Filled, Graph
from hypernet_jax.interchange.onnx_jaxpr import translate
from hypernet_jax.interchange.onnx_value import Value
from hypernet_jax.interchange.portable import check_level_map, is_plain, level_shape
from hypernet_jax.model import Model
from hypernet_jax.networks import spec_of

__all__ = ["BankGraph", "PlainGraph", "export_onnx"]


def export_onnx(
    model: Model, theta: Theta, *, metadata: dict[str, Any], level_map: bool = False
) -> onnx.ModelProto:
    """Builds and checks the ONNX model.

    Inputs "image" (batch, colours, height, width), float32 in [0, 1], of any size, and "level", a
    float32 scalar in native units, or a vector of its parts, whose range is not checked; output
    "restored" of the image's shape, not clipped. A plain network takes only the image. With
    `level_map`, "level" is (batch, parts, height, width), a level for each pixel.

    Raises:
      UserError: if the network or the features of the level cannot be translated.
    """
    graph = Graph()
    if level_map:
        check_level_map(model)
        return _with_map(graph, model, theta, metadata)
    if is_plain(model):
        params = model.generate(theta, model.task.space.high.array)
        flat = traverse_util.flatten_dict(params, sep="/")
        return _plain(graph, model, flat, metadata)

    def restore(image: jax.Array, level: jax.Array) -> jax.Array:
        params = model.generate(theta, level)
        return cast(jax.Array, model.network.apply({"params": params}, image))

    shape = level_shape(model)
    level = Value(shape, lambda: "level"), jax.ShapeDtypeStruct(shape, jnp.float32)
    return _finished(graph, model, restore, [level], metadata, [("level", shape)])


def _with_map(
    graph: Graph, model: Model, theta: Theta, metadata: dict[str, Any]
) -> onnx.ModelProto:
    def phi(level: jax.Array) -> jax.Array:
        return model.hypernet.phi(theta["features"], level)

    given = ("level", len(model.task.space), phi)
    return _of_banks(graph, model, theta["generated"], theta["shared"], metadata, given=given)


def _of_banks(
    graph: Graph,
    model: Model,
    banks: Mapping[str, Any],
    shared: Mapping[str, Any],
    metadata: dict[str, Any],
    *,
    given: tuple[str, int, Callable[[jax.Array], jax.Array]],
) -> onnx.ModelProto:
    """A network with a weighted sum of the banks' kernels at each pixel.

    Args:
      graph: the graph to add to, whose tensors of the banks are labelled.
      model: the model of the network.
      banks, shared: parameters by path.
      metadata: metadata of the file.
      given: name and channels of the input from which the weights are computed, and how.
    """
    name, channels, phi = given
    paths = [*banks, *shared]
    multiple, size = _size(graph, model)
    traced = jax.ShapeDtypeStruct((1, *_traced_size(multiple), channels), jnp.float32)
    whole = Value(traced.shape, lambda: _completed(graph, name, size, multiple), is_image=True)
    features = PixelFeatures(graph, translate(graph, phi, (whole, traced)))

    restore = _with_leaves(model, paths)
    leaves = [
        Value(bank.shape[1:], bank=np.asarray(bank), label=(path, None))
        for path, bank in banks.items()
    ]
    leaves += [Value(leaf.shape, constant=np.asarray(leaf)) for leaf in shared.values()]
    arguments = [(leaf, jax.ShapeDtypeStruct(leaf.shape, jnp.float32)) for leaf in leaves]
    return _finished(
        graph, model, restore, arguments, metadata,
        [(name, ("batch", channels, "height", "width"))],
        features=features,
    )  # fmt: skip


def _with_leaves(model: Model, paths: list[str]) -> Callable[..., jax.Array]:
    """The network as a function of the image and its parameters, in the order of `paths`."""

    def restore(image: jax.Array, *leaves: jax.Array) -> jax.Array:
        tree = traverse_util.unflatten_dict(dict(zip(paths, leaves, strict=True)), sep="/")
        return cast(jax.Array, model.network.apply({"params": tree}, image))

    return restore


def _size(graph: Graph, model: Model) -> tuple[int, str]:
    """The required multiple of sides, and the tensor of the image's height and width."""
    return spec_of(model.network).multiple_of, graph.op("Shape", "image", start=2, end=4)


def _traced_size(multiple: int) -> tuple[int, int]:
    """Image sizes for tracing that no other axis has."""
    return 6 * multiple, 7 * multiple


def _plain(
    graph: Graph, model: Model, params: dict[str, np.ndarray], metadata: dict[str, Any]
) -> onnx.ModelProto:
    """A network with these parameters, labelled in the graph by path."""
    paths = list(params)

    restore = _with_leaves(model, paths)
    leaves = [
        (
            Value(leaf.shape, constant=np.asarray(leaf), label=(path, None)),
            jax.ShapeDtypeStruct(leaf.shape, jnp.float32),
        )
        for path, leaf in params.items()
    ]
    return _finished(graph, model, restore, leaves, metadata, [])


def _finished(
    graph: Graph,
    model: Model,
    restore: Callable[..., jax.Array],
    arguments: list[tuple[Value, jax.ShapeDtypeStruct]],
    metadata: dict[str, Any],
    inputs: list[tuple[str, tuple]],
    features: PixelFeatures | None = None,
) -> onnx.ModelProto:
    """The graph of restore(image, *arguments), for images of any size."""
    # The image is padded to the multiple that the network needs, and cropped at the end.
    multiple, size = _size(graph, model)
    image = _completed(graph, "image", size, multiple)
    traced = jax.ShapeDtypeStruct((1, *_traced_size(multiple), model.colours), jnp.float32)
    whole = Value(traced.shape, lambda: image, is_image=True), traced
    restored = translate(graph, restore, whole, *arguments, features=features).name(graph)
    starts, axes = (graph.constant(np.array(pair, np.int64)) for pair in ([0, 0], [2, 3]))
    restored = graph.op("Slice", restored, starts, size, axes)
    shape = ("batch", model.colours, "height", "width")
    described: list[Any] = [("image", shape), *inputs]
    return graph.model(inputs=described, output=(restored, "restored", shape), metadata=metadata)


class BankGraph:
    """The graph of a network with weighted kernels per pixel, to be filled with kernel banks.

    Args:
      model: the model of the network.
      banks: generated parameters by path, (D, ...), with the shapes of later banks.
      shared: the other parameters by path.
      has_constant: the first kernel has weight 1 at every pixel, and is not in the input "weights".
    """

    def __init__(
        self,
        model: Model,
        banks: Mapping[str, np.ndarray],
        shared: Mapping[str, np.ndarray],
        *,
        has_constant: bool,
    ):
        def phi(weights: jax.Array) -> jax.Array:
            one = jnp.ones((*weights.shape[:-1], 1), weights.dtype)
            return jnp.concatenate([one, weights], axis=-1) if has_constant else weights

        graph, count = Graph(), len(next(iter(banks.values())))
        given = ("weights", count - has_constant, phi)
        self._proto = _of_banks(graph, model, banks, shared, {}, given=given)
        self._tensors = graph.filled

    def filled(self, banks: Mapping[str, np.ndarray]) -> bytes:
        """A model file with these banks."""
        return _with_values(self._proto, self._tensors, banks)


def _with_values(
    proto: onnx.ModelProto, filled: Sequence[Filled], leaves: Mapping[str, np.ndarray]
) -> bytes:
    """The file of a graph with other values in all tensors that have a label."""
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    for (path, row), name, layout in filled:
        value = layout(leaves[path] if row is None else leaves[path][row])
        tensors[name].raw_data = np.ascontiguousarray(value, np.float32).tobytes()
    return proto.SerializeToString()


class PlainGraph:
    """The graph of a network, to be filled with the parameters of different levels.

    Args:
      model: the model of the network.
      params: parameters of any level, by path.
    """

    def __init__(self, model: Model, params: dict[str, np.ndarray]):
        graph = Graph()
        self._proto = _plain(graph, model, params, {})
        self._tensors = graph.filled

    def filled(self, params: Mapping[str, np.ndarray]) -> bytes:
        """A model file with these parameters."""
        return _with_values(self._proto, self._tensors, params)


def _completed(graph: Graph, image: str, size: str, multiple: int) -> str:
    """The image padded symmetrically at the bottom and right to multiples of `multiple`."""
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
        # Symmetric padding of any length: forth and back, repeatedly.
        period = graph.op("Mul", length, integers(2))
        forth = graph.op("Mod", graph.op("Range", zero, stop, one), period)
        back = graph.op("Sub", graph.op("Sub", period, integers(1)), forth)
        image = graph.op("Gather", image, graph.op("Min", forth, back), axis=axis)
    return image
