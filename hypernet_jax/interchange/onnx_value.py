"""Arrays of a traced JAX function, and how they become tensors of an ONNX graph."""

from collections.abc import Callable

import numpy as np

from hypernet_jax.errors import UserError
from hypernet_jax.interchange.onnx_graph import Graph

__all__ = ["TO_CHANNELS_FIRST", "Value"]

TO_CHANNELS_FIRST = (0, 3, 1, 2)


class Value:
    """An array of the traced function.

    Attributes:
      shape: as traced.
      constant: its value, if known.
      label: label of the constant in the graph.
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
        label: str | None = None,
        is_image: bool = False,
        bank: np.ndarray | None = None,
    ):
        self.shape, self.constant, self.is_image = shape, constant, is_image
        self.label, self.bank = label, bank
        self.parts: tuple[Value, ...] = ()
        # A convolution that can still take a bias; the vector that this is a view of; the weights
        # and arrays that this is a weighted sum of.
        self.convolution: Callable[[Value | None], str] | None = None
        self.vector: Value | None = None
        self.mixture: tuple[Value, np.ndarray] | None = None
        self._make = make
        self._name: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether its value is known, has its own shape and needs no label in the graph."""
        if self.constant is None or self.label is not None:
            return False
        return self.constant.shape == self.shape

    def name(self, graph: Graph) -> str:
        """The tensor's name; its node is added on first use."""
        if self.bank is not None:
            raise UserError(
                "This network has a generated parameter that is not a kernel or bias of a "
                "convolution, so pixels cannot have different levels; leave out the level map."
            )
        if self._name is None:
            if self._make is not None:
                self._name = self._make()
            else:
                self._name = graph.constant(self.constant, label=self.label)
        return self._name

    def of_feature(self, index: int) -> "Value":
        """The value for one feature of the bank; its label in the graph is LABEL:INDEX."""
        assert self.bank is not None
        label = None if self.label is None else f"{self.label}:{index}"
        return Value(self.shape, constant=self.bank[index], label=label)

    def image_name(self, graph: Graph) -> str:
        """The name of an array of four axes as (N, C, H, W)."""
        if self.is_image:
            return self.name(graph)
        if self.constant is not None:
            turned = np.ascontiguousarray(self.constant.transpose(TO_CHANNELS_FIRST))
            return graph.constant(turned)
        return graph.op("Transpose", self.name(graph), perm=TO_CHANNELS_FIRST)
