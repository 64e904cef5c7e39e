"""Features of a level map in an ONNX graph: one plane each, at the resolution of any layer."""

import functools

import numpy as np

from hypernet_jax.interchange.onnx_graph import Graph
from hypernet_jax.interchange.onnx_value import Value

__all__ = ["PixelFeatures"]


class PixelFeatures:
    """The features phi of the level of every pixel.

    Args:
      graph: the graph to add nodes to when a plane is first needed.
      phi: (N, H, W, D), an image.
    """

    def __init__(self, graph: Graph, phi: Value):
        self._graph, self._phi = graph, phi
        self._planes = list(_planes(phi))
        self.plane = functools.cache(self._plane)
        self.all = functools.cache(self._all)

    @property
    def height(self) -> int:
        """Number of rows, as traced."""
        return self._phi.shape[1]

    def _plane(self, index: int, factor: int) -> str | None:
        """The tensor of one feature, (N, 1, h, w); None if it is 1 at every pixel.

        Args:
          index: index of the feature.
          factor: downsampling factor; each sample is a mean over factor x factor pixels.
        """
        value, channel = self._planes[index]
        if value.constant is not None and (value.constant == 1).all():
            return None
        name = value.image_name(self._graph)
        if value.shape[-1] > 1:
            ends = (np.array([end], np.int64) for end in (channel, channel + 1, 1))
            name = self._graph.op("Slice", name, *map(self._graph.constant, ends))
        return self._mean(name, factor)

    def _all(self, factor: int) -> str:
        """The tensor of all features, (N, D, h, w)."""
        return self._mean(self._phi.image_name(self._graph), factor)

    def _mean(self, name: str, factor: int) -> str:
        if factor == 1:
            return name
        side = (factor, factor)
        return self._graph.op("AveragePool", name, kernel_shape=side, strides=side)


def _planes(value: Value):
    """For each channel of an image, the array that it was concatenated from, and its channel."""
    for part in value.parts or (value,):
        if part is value:
            yield from ((value, channel) for channel in range(value.shape[-1]))
        else:
            yield from _planes(part)
