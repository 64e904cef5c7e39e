"""Arrays of a traced JAX function, and how they become tensors of an ONNX graph."""

from collections.abc import Callable

import numpy as np

from hypernet_jax.errors import UserError
from hypernet_jax.interchange.onnx_graph import Graph, Label, as_it_is

__all__ = ["TO_CHANNELS_FIRST", "Value"]

TO_CHANNELS_FIRST = (0, 3, 1, 2)


class Value:
    """An array of the traced function.

    Attributes:
      shape: as traced.
      constant: its value, if that is known and the same in every filled graph.
      is_image: whether it is stored as (N, C, H, W), while the function has (N, H, W, C).
      bank: for a parameter that differs per pixel, its value for each feature, (D, ...).
      parts: the images that its channels were concatenated from.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        make: Callable[[], str] | None = None,
        *,
        constant: np.ndarray | None = None,
        label: Label | None = None,
        is_image: bool = False,
        bank: np.ndarray | None = None,
    ):
        """With a label, `constant` is what the graph is built with, and is filled in later."""
        self.shape, self.is_image, self.bank = shape, is_image, bank
        self.constant = constant if label is None else None
        self.parts: tuple[Value, ...] = ()
        # A convolution that can still take a bias; the vector that this is a view of; the weights
        # and arrays that this is a weighted sum of.
        self.convolution: Callable[[Value | None], str] | None = None
        self.vector: Value | None = None
        self.mixture: tuple[Value, Value] | None = None
        self._label, self._held, self._make = label, constant, make
        self._names: dict[Callable, str] = {}

    @property
    def is_known(self) -> bool:
        """Whether its value is known and has its own shape."""
        return self.constant is not None and self.constant.shape == self.shape

    @property
    def is_stored(self) -> bool:
        """Whether the graph holds its value as a tensor, in any layout."""
        return self._held is not None

    def name(self, graph: Graph) -> str:
        """The tensor's name; its node is added on first use."""
        if self.bank is not None:
            raise UserError(
                "This network has a generated parameter that is not a kernel or bias of a "
                "convolution, so pixels cannot have different levels; leave out the level map."
            )
        if self._make is None:
            return self.stored(graph, as_it_is)
        if as_it_is not in self._names:
            self._names[as_it_is] = self._make()
        return self._names[as_it_is]

    def stored(self, graph: Graph, layout: Callable[[np.ndarray], np.ndarray]) -> str:
        """The name of its tensor in a layout, which is a function of a module."""
        if layout not in self._names:
            self._names[layout] = graph.constant(self._held, label=self._label, layout=layout)
        return self._names[layout]

    def of_feature(self, index: int) -> "Value":
        """The value for one feature of the bank."""
        assert self.bank is not None and self._label is not None
        return Value(self.shape, constant=self.bank[index], label=(self._label[0], index))

    def stored_bank(self, graph: Graph, layout: Callable[[np.ndarray], np.ndarray]) -> str:
        """The name of a tensor of the whole bank."""
        return graph.constant(self.bank, label=self._label, layout=layout)

    def image_name(self, graph: Graph) -> str:
        """The name of an array of four axes as (N, C, H, W)."""
        if self.is_image:
            return self.name(graph)
        if self.is_stored:
            return self.stored(graph, _channels_first)
        return graph.op("Transpose", self.name(graph), perm=TO_CHANNELS_FIRST)


def _channels_first(value: np.ndarray) -> np.ndarray:
    return value.transpose(TO_CHANNELS_FIRST)
