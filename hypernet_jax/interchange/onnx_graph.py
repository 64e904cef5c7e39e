"""Building ONNX graphs node by node, and small JAX functions as ONNX nodes."""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax.extend.core import Literal
from onnx import TensorProto, helper, numpy_helper

from hypernet_jax.errors import UserError

__all__ = ["Graph"]

# 17 and 8 are old enough for runtimes of the last years, browsers' included.
_OPSET, _IR_VERSION = 17, 8


class Graph:
    """An ONNX graph in the making; tensors are known by their names."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._count = itertools.count()

    def constant(self, value: Any, name: str = "constant") -> str:
        """Adds a tensor and returns its name, made unique."""
        name = f"{name}_{next(self._count)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node and returns the name of its only output."""
        output = f"{kind.lower()}_{next(self._count)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def jax(self, function: Callable, *inputs: tuple[str, tuple[int, ...]]) -> str:
        """Adds what a small float32 JAX function does.

        Args:
          function: made of elementwise arithmetic, matrix products and reshapes.
          *inputs: names and shapes of its arguments.

        So features and normalisations have one definition, the one that is trained with.
        """
        shapes = [jax.ShapeDtypeStruct(shape, np.float32) for _, shape in inputs]
        closed = jax.make_jaxpr(function)(*shapes)
        return self._evaluate(closed, [name for name, _ in inputs])[0]

    def model(
        self, *, inputs: Sequence[Any], output: tuple[str, str, Sequence], metadata: dict[str, Any]
    ) -> onnx.ModelProto:
        """The finished model.

        Args:
          inputs: (name, shape) of each float32 input, dimensions as numbers or names.
          output: (name of the tensor, name it gets outside, shape).
          metadata: told as strings.
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
        # Strings as they are, all else as JSON spells it.
        told = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
        helper.set_model_props(model, told)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _evaluate(self, closed: Any, inputs: Sequence[str]) -> list[str]:
        jaxpr = closed.jaxpr
        names = dict(zip(jaxpr.invars, inputs, strict=True))
        names |= {
            variable: self.constant(np.asarray(value))
            for variable, value in zip(jaxpr.constvars, closed.consts, strict=True)
        }

        def name_of(atom: Any) -> str:
            if isinstance(atom, Literal):
                return self.constant(np.asarray(atom.val, np.float32))
            return names[atom]

        for equation in jaxpr.eqns:
            arguments = [name_of(atom) for atom in equation.invars]
            inner = equation.params.get("jaxpr") or equation.params.get("call_jaxpr")
            if inner is not None:
                outputs = self._evaluate(inner, arguments)
            else:
                outputs = [self._primitive(equation, arguments)]
            names |= dict(zip(equation.outvars, outputs, strict=True))
        return [name_of(atom) for atom in jaxpr.outvars]

    def _primitive(self, equation: Any, inputs: list[str]) -> str:
        kind, params = equation.primitive.name, equation.params
        if kind in _ELEMENTWISE:
            return self.op(_ELEMENTWISE[kind], *inputs)
        if kind == "select_n":
            return self.op("Where", inputs[0], inputs[2], inputs[1])
        if kind == "integer_pow":
            return self.op("Pow", inputs[0], self.constant(np.float32(params["y"])))
        if kind == "concatenate":
            return self.op("Concat", *inputs, axis=params["dimension"])
        if kind == "dot_general" and params["dimension_numbers"] == (((0,), (0,)), ((), ())):
            return self.op("MatMul", *inputs)
        sizes = [int(np.prod(variable.aval.shape)) for variable in equation.invars[:1]]
        shape = equation.outvars[0].aval.shape
        if kind in ("broadcast_in_dim", "reshape", "squeeze") and sizes == [int(np.prod(shape))]:
            return self.op("Reshape", inputs[0], self.constant(np.array(shape, np.int64)))
        if kind == "broadcast_in_dim" and sizes == [1]:
            return self.op("Expand", inputs[0], self.constant(np.array(shape, np.int64)))
        if kind in ("copy", "convert_element_type", "stop_gradient"):
            return inputs[0]
        raise UserError(
            f"These features of the level use {kind}, which has no translation to ONNX yet; give "
            "the one --level to bake in, or take --format stablehlo."
        )


_ELEMENTWISE = {
    "add": "Add",
    "add_any": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "neg": "Neg",
    "max": "Max",
    "min": "Min",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
    "exp": "Exp",
    "log": "Log",
    "pow": "Pow",
    "lt": "Less",
    "gt": "Greater",
}
