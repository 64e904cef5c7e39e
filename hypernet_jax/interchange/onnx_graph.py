"""Builds ONNX graphs node by node."""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Filled", "Graph", "Label", "as_it_is"]

# Old enough for all recent runtimes, including those in browsers.
_OPSET, _IR_VERSION = 17, 8


# The path of a parameter, and which row of it; None for all of it.
Label = tuple[str, int | None]


class Filled(NamedTuple):
    """A tensor of a graph that can be filled anew: what it holds, its name and its layout."""

    label: Label
    name: str
    layout: Callable[[np.ndarray], np.ndarray]


def as_it_is(value: np.ndarray) -> np.ndarray:
    """The layout of a tensor that is stored as the function has it."""
    return value


class Graph:
    """An ONNX graph under construction; tensors are identified by name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._count = itertools.count()
        self.filled: list[Filled] = []

    def constant(
        self,
        value: Any,
        *,
        label: Label | None = None,
        layout: Callable[[np.ndarray], np.ndarray] = as_it_is,
    ) -> str:
        """Adds a tensor in a layout and returns its name; with a label it is one of `filled`."""
        name = f"constant_{next(self._count)}"
        if label is not None:
            self.filled.append(Filled(label, name, layout))
        stored = np.ascontiguousarray(layout(np.asarray(value))) if np.ndim(value) else value
        self._constants.append(numpy_helper.from_array(np.asarray(stored), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node and returns the name of its only output."""
        output = f"{kind.lower()}_{next(self._count)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def op_of_two(self, kind: str, *inputs: str, **attributes: Any) -> tuple[str, str]:
        """Adds a node with two outputs and returns their names."""
        number = next(self._count)
        outputs = [f"{kind.lower()}_{number}_{which}" for which in (0, 1)]
        self._nodes.append(helper.make_node(kind, list(inputs), outputs, **attributes))
        return outputs[0], outputs[1]

    def model(
        self, *, inputs: Sequence[Any], output: tuple[str, str, Sequence], metadata: dict[str, Any]
    ) -> onnx.ModelProto:
        """The finished model.

        Args:
          inputs: (name, shape) of each float32 input, dimensions as numbers or names.
          output: (name of the tensor, name of the output, shape).
          metadata: stored as strings.
        """
        tensor, name, shape = output
        self._nodes.append(helper.make_node("Identity", [tensor], [name]))

        def info(name, shape):
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        graph = helper.make_graph(
            self._nodes,
            "hypernet_jax",
            [info(*each) for each in inputs],
            [info(name, shape)],
            self._constants,
        )
        model = helper.make_model(
            graph,
            producer_name="hypernet_jax",
            opset_imports=[helper.make_opsetid("", _OPSET)],
            ir_version=_IR_VERSION,
        )
        # Strings unchanged, everything else as JSON.
        properties = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
        helper.set_model_props(model, properties)
        onnx.checker.check_model(model, full_check=True)
        return model
