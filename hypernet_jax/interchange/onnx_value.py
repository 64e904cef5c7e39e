"""An array of a JAX function, on its way to being a tensor of an ONNX graph."""

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
      constant: its value, if that is known.
      label: what the graph is to remember the constant by.
      is_image: whether it is kept as (N, C, H, W) where the function has (N, H, W, C).
      bank: of a parameter that each pixel has of its own: the value for each feature, (D, ...).
      parts: the images whose channels it has, one after the other.
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
        # A convolution to which a bias may still be added, the vector that this is a view of,
        # and the weights and arrays that this is the weighted sum of.
        self.convolution: Callable[[Value | None], str] | None = None
        self.vector: Value | None = None
        self.mixture: tuple[Value, np.ndarray] | None = None
        self._make = make
        self._name: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether its value is known, in its own shape, and the graph need not remember it."""
        if self.constant is None or self.label is not None:
            return False
        return self.constant.shape == self.shape

    def name(self, graph: Graph) -> str:
        """The tensor's name; its node is made when it is first asked for."""
        if self.bank is not None:
            raise UserError(
                "This network has a generated parameter that is no kernel or bias of a "
                "convolution, so pixels cannot have levels of their own; leave out the level map."
            )
        if self._name is None:
            if self._make is not None:
                self._name = self._make()
            else:
                self._name = graph.constant(self.constant, label=self.label)
        return self._name

    def of_feature(self, index: int) -> "Value":
        """One of the bank; the graph remembers it by the label, and the number after a colon."""
        assert self.bank is not None
        label = None if self.label is None else f"{self.label}:{index}"
        return Value(self.shape, constant=self.bank[index], label=label)

    def image_name(self, graph: Graph) -> str:
        """An array of four axes as (N, C, H, W)."""
        if self.is_image:
            return self.name(graph)
        if self.constant is not None:
            turned = np.ascontiguousarray(self.constant.transpose(TO_CHANNELS_FIRST))
            return graph.constant(turned)
        return graph.op("Transpose", self.name(graph), perm=TO_CHANNELS_FIRST)
