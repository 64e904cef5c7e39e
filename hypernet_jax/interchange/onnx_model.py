"""A model as ONNX: the level goes in beside the image, and kernels are made in the graph."""

from typing import Any

import numpy as np
import onnx
from flax import traverse_util

from hypernet_jax.hypernet import Theta
from hypernet_jax.interchange.onnx_graph import Graph
from hypernet_jax.interchange.portable import is_plain, residual_network
from hypernet_jax.model import Model

__all__ = ["export_onnx"]


class _Kernels:
    """Kernels and biases by path, as names of tensors in PyTorch's and ONNX's layout."""

    def __init__(self, graph: Graph, model: Model, theta: Theta, level: str | None):
        self._graph = graph
        if level is None:
            params = model.generate(theta, model.task.scale.high)
            self._shared, self._banks = traverse_util.flatten_dict(params, sep="/"), {}
            return
        self._shared, self._banks = theta["shared"], theta["generated"]

        def phi(level):
            return model.hypernet.phi(theta["features"], level)

        self._phi = graph.jax(phi, (level, ()))

    def __getitem__(self, path: str) -> str:
        if path in self._shared:
            return self._graph.constant(_oihw(np.asarray(self._shared[path])), path)
        bank = np.stack([_oihw(part) for part in np.asarray(self._banks[path])])
        features, *shape = bank.shape
        flat = self._graph.constant(bank.reshape(features, -1), path)
        mixed = self._graph.op("MatMul", self._phi, flat)
        return self._graph.op("Reshape", mixed, self._graph.constant(np.array(shape, np.int64)))


def _oihw(leaf: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(leaf.transpose(3, 2, 0, 1)) if leaf.ndim == 4 else leaf


def export_onnx(model: Model, theta: Theta, *, metadata: dict[str, Any]) -> onnx.ModelProto:
    """Builds the model, checked.

    Inputs "image" (batch, colours, height, width), float32 in [0, 1], of any size, and "level", a
    float32 scalar in people's units, not checked for its range; output "restored" of the image's
    shape, not clipped. A plain network takes the image alone.
    """
    network = residual_network(model)
    graph = Graph()
    plain = is_plain(model)
    kernels = _Kernels(graph, model, theta, None if plain else "level")

    def conv(x: str, layer: str, stride: int = 1) -> str:
        return graph.op(
            "Conv",
            x,
            kernels[f"{layer}/kernel"],
            kernels[f"{layer}/bias"],
            kernel_shape=(3, 3),
            pads=(1, 1, 1, 1),
            strides=(stride, stride),
        )

    def shuffle(x: str) -> str:
        return graph.op("DepthToSpace", x, blocksize=network.stride, mode="CRD")

    # Odd sides are continued by one row or column and cut back at the end.
    size = graph.op("Shape", "image", start=2, end=4)
    odd = graph.op("Mod", size, graph.constant(np.array([network.stride], np.int64)))
    pads = graph.op("Concat", graph.constant(np.zeros(6, np.int64)), odd, axis=0)
    image = graph.op("Pad", "image", pads, mode="edge")

    head = x = conv(image, "head", network.stride)
    for block in range(network.blocks):
        y = graph.op("Relu", conv(x, f"block_{block}/conv_1"))
        x = graph.op("Add", x, conv(y, f"block_{block}/conv_2"))
    x = graph.op("Add", head, conv(x, "body_end"))
    if network.light_tail:
        x = shuffle(conv(x, "output"))
    else:
        x = graph.op("Relu", shuffle(conv(x, "upsample")))
        x = graph.op("Relu", conv(x, "refine"))
        x = conv(x, "output")
    if network.residual_output:
        x = graph.op("Add", image, x)
    starts, axes = (graph.constant(np.array(pair, np.int64)) for pair in ([0, 0], [2, 3]))
    x = graph.op("Slice", x, starts, size, axes)

    shape = ("batch", model.colours, "height", "width")
    inputs: list[Any] = [("image", shape)]
    if not plain:
        inputs.append(("level", ()))
    return graph.model(inputs=inputs, output=(x, "restored", shape), metadata=metadata)
