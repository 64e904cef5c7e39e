"""JAX functions as ONNX nodes: networks and features of the level, from their jaxprs.

So each has one definition, the one that is trained with. Images are traced with rows, columns
and batches of arbitrary size, and no node depends on it: images stay in ONNX's layout, (N, C, H,
W), and what is broadcast stays small until an operator broadcasts it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from hypernet_jax.errors import UserError
from hypernet_jax.interchange.onnx_graph import Graph

__all__ = ["OIHW", "Value", "translate"]

_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)
# Height and width, in and out: kernels as JAX and as ONNX have them.
OIHW = (3, 2, 0, 1)


class Value:
    """An array of the traced function.

    Attributes:
      shape: as traced.
      constant: its value, if that is known.
      label: what the graph is to remember the constant by.
      is_image: whether it is kept as (N, C, H, W) where the function has (N, H, W, C).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        make: Callable[[], str] | None = None,
        *,
        constant: np.ndarray | None = None,
        label: str | None = None,
        is_image: bool = False,
    ):
        self.shape, self.constant, self.is_image = shape, constant, is_image
        self.label = label
        # A convolution to which a bias may still be added, the vector that this is a view of,
        # and the weights and arrays that this is the weighted sum of.
        self.convolution: Callable[[Value | None], str] | None = None
        self.vector: Value | None = None
        self.mixture: tuple[Value, np.ndarray] | None = None
        self._make = make
        self._name: str | None = None

    def name(self, graph: Graph) -> str:
        """The tensor's name; its node is made when it is first asked for."""
        if self._name is None:
            if self._make is not None:
                self._name = self._make()
            else:
                self._name = graph.constant(self.constant, label=self.label)
        return self._name


def translate(
    graph: Graph, function: Callable, *inputs: tuple[Value, jax.ShapeDtypeStruct]
) -> Value:
    """Adds what a JAX function of arrays does to a graph; returns its only result.

    Args:
      graph: grows.
      function: made of convolutions, elementwise arithmetic, matrix products, and
        `pixel_shuffle`.
      *inputs: its arguments, and what they are traced as.

    Raises:
      UserError: for an operation that has no translation.
    """
    closed = jax.make_jaxpr(function)(*(traced for _, traced in inputs))
    return _Translation(graph).run(closed.jaxpr, closed.consts, [value for value, _ in inputs])[0]


class _Translation:
    def __init__(self, graph: Graph):
        self._graph = graph

    def run(self, jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Value]) -> list[Value]:
        values = dict(zip(jaxpr.invars, inputs, strict=True))
        for variable, constant in zip(jaxpr.constvars, constants, strict=True):
            values[variable] = _known(constant)

        def value_of(atom: Any) -> Value:
            return _known(atom.val) if isinstance(atom, Literal) else values[atom]

        for equation in jaxpr.eqns:
            outputs = self._equation(equation, [value_of(atom) for atom in equation.invars])
            values |= dict(zip(equation.outvars, outputs, strict=True))
        return [value_of(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, inputs: list[Value]) -> list[Value]:
        params, shape = equation.params, equation.outvars[0].aval.shape
        if params.get("name") == "pixel_shuffle":
            return [self._pixel_shuffle(shape, inputs[0])]
        inner = params.get("jaxpr") or params.get("call_jaxpr") or params.get("call")
        if inner is not None:
            closed = hasattr(inner, "jaxpr")
            jaxpr, constants = (inner.jaxpr, inner.consts) if closed else (inner, ())
            return self.run(jaxpr, constants, inputs)
        if all(value.constant is not None and value.label is None for value in inputs):
            found = equation.primitive.bind(*(value.constant for value in inputs), **params)
            return [_known(found)]
        return [self._primitive(equation, inputs, shape)]

    def _primitive(self, equation: Any, inputs: list[Value], shape: tuple[int, ...]) -> Value:
        kind, params = equation.primitive.name, equation.params
        if kind == "conv_general_dilated":
            return self._convolution(inputs, shape, params)
        if kind in _ELEMENTWISE or kind in ("select_n", "integer_pow"):
            return self._elementwise(kind, params, inputs, shape)
        if kind in ("copy", "convert_element_type", "stop_gradient", "copy_p"):
            return inputs[0]
        if kind == "concatenate":
            return self._concatenate(inputs, shape, params["dimension"])
        if kind == "dot_general" and params["dimension_numbers"] == (((0,), (0,)), ((), ())):
            return self._weighted_sum(shape, *inputs)
        if kind == "slice":
            return self._slice(equation.params, inputs[0], shape)
        if kind in ("broadcast_in_dim", "reshape", "squeeze"):
            return self._reshaped(kind, params, inputs[0], shape)
        raise _untranslated(kind)

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self._graph.op(kind, *inputs, **attributes)

    def _integers(self, values: Sequence[int]) -> str:
        return self._graph.constant(np.array(values, np.int64))

    def _pixel_shuffle(self, shape: tuple[int, ...], x: Value) -> Value:
        factor = shape[1] // x.shape[1]

        def make() -> str:
            return self._op("DepthToSpace", self._image(x), blocksize=factor, mode="CRD")

        return Value(shape, make, is_image=True)

    def _convolution(self, inputs: list[Value], shape: tuple[int, ...], params: Any) -> Value:
        x, kernel = inputs
        plain = (1, 1) == params["lhs_dilation"] == params["rhs_dilation"]
        numbers = params["dimension_numbers"]
        layout = (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec)
        if not plain or layout != (_TO_CHANNELS_FIRST, OIHW, _TO_CHANNELS_FIRST):
            raise _untranslated("a dilated convolution or one of another layout")
        lows, highs = zip(*params["padding"], strict=True)

        def make(bias: Value | None = None) -> str:
            names = [self._image(x), self._kernel(kernel)]
            if bias is not None:
                names.append(bias.name(self._graph))
            return self._op(
                "Conv",
                *names,
                kernel_shape=kernel.shape[:2],
                pads=(*lows, *highs),
                strides=params["window_strides"],
                group=params["feature_group_count"],
            )

        made = Value(shape, make, is_image=True)
        made.convolution = make
        return made

    def _kernel(self, kernel: Value) -> str:
        """As ONNX has it; a weighted sum of constants is one of turned constants."""
        if kernel.constant is not None:
            turned = np.ascontiguousarray(kernel.constant.transpose(OIHW))
            return self._graph.constant(turned, label=kernel.label)
        if kernel.mixture is not None:
            weights, bank = kernel.mixture
            turned = bank.transpose(0, *(axis + 1 for axis in OIHW))
            return self._mixed(weights, np.ascontiguousarray(turned))
        return self._op("Transpose", kernel.name(self._graph), perm=OIHW)

    def _mixed(self, weights: Value, bank: np.ndarray) -> str:
        flat = self._graph.constant(bank.reshape(len(bank), -1))
        mixed = self._op("MatMul", weights.name(self._graph), flat)
        return self._op("Reshape", mixed, self._integers(bank.shape[1:]))

    def _weighted_sum(self, shape: tuple[int, ...], weights: Value, bank: Value) -> Value:
        if bank.constant is None:
            names = [value.name(self._graph) for value in (weights, bank)]
            return Value(shape, lambda: self._op("MatMul", *names))
        constant = bank.constant
        made = Value(shape, lambda: self._mixed(weights, constant))
        made.mixture = (weights, constant)
        return made

    def _elementwise(
        self, kind: str, params: Any, inputs: list[Value], shape: tuple[int, ...]
    ) -> Value:
        is_image = any(value.is_image for value in inputs)
        if kind == "add" and is_image:
            for one, other in (inputs, inputs[::-1]):
                # Biases go into the convolution, as fast runtimes have them.
                if one.convolution is not None and other.vector is not None:
                    made = functools.partial(one.convolution, other.vector)
                    return Value(shape, made, is_image=True)

        zeros = [value.constant is not None and not value.constant.any() for value in inputs]
        if kind == "max" and any(zeros):
            kind, inputs = "relu", [inputs[zeros.index(False)]]

        def make() -> str:
            names = [self._operand(value, is_image) for value in inputs]
            if kind == "select_n":
                return self._op("Where", names[0], names[2], names[1])
            if kind == "integer_pow":
                return self._op("Pow", names[0], self._graph.constant(np.float32(params["y"])))
            return self._op(_ELEMENTWISE[kind], *names)

        return Value(shape, make, is_image=is_image)

    def _operand(self, value: Value, among_images: bool) -> str:
        if among_images and len(value.shape) == 4:
            return self._image(value)
        return value.name(self._graph)

    def _image(self, value: Value) -> str:
        """An array of four axes as (N, C, H, W)."""
        if value.is_image:
            return value.name(self._graph)
        if value.constant is not None:
            turned = np.ascontiguousarray(value.constant.transpose(_TO_CHANNELS_FIRST))
            return self._graph.constant(turned)
        return self._op("Transpose", value.name(self._graph), perm=_TO_CHANNELS_FIRST)

    def _concatenate(self, inputs: list[Value], shape: tuple[int, ...], axis: int) -> Value:
        is_image = any(value.is_image for value in inputs)

        def make() -> str:
            names = [self._operand(value, is_image) for value in inputs]
            if not is_image:
                return self._op("Concat", *names, axis=axis)
            whole = next(name for name, v in zip(names, inputs, strict=True) if v.is_image)
            size = self._op("Shape", whole)
            batch, sides = (
                self._op("Slice", size, self._integers([start]), self._integers([stop]))
                for start, stop in ((0, 1), (2, 4))
            )
            for index, value in enumerate(inputs):
                if not value.is_image:
                    # A plane that was to be broadcast.
                    target = self._op(
                        "Concat", batch, self._integers([value.shape[-1]]), sides, axis=0
                    )
                    names[index] = self._op("Expand", names[index], target)
            return self._op("Concat", *names, axis=_TO_CHANNELS_FIRST.index(axis))

        return Value(shape, make, is_image=is_image)

    def _slice(self, params: Any, x: Value, shape: tuple[int, ...]) -> Value:
        starts, stops = params["start_indices"], params["limit_indices"]
        axes = [axis for axis, length in enumerate(x.shape) if length != shape[axis]]
        if set(params["strides"] or (1,)) != {1} or (x.is_image and axes != [3]):
            raise _untranslated("slice with a step, or of the sides of an image,")

        def make() -> str:
            ends = ([each[axis] for axis in axes] for each in (starts, stops))
            places = [1] if x.is_image else axes
            names = [self._integers(each) for each in (*ends, places)]
            return self._op("Slice", x.name(self._graph), *names)

        return Value(shape, make, is_image=x.is_image) if axes else x

    def _reshaped(self, kind: str, params: Any, x: Value, shape: tuple[int, ...]) -> Value:
        sizes = [int(np.prod(each)) for each in (x.shape, shape)]
        if x.is_image and (kind != "broadcast_in_dim" or x.shape != shape):
            raise _untranslated(f"{kind} of an image")
        if x.is_image:
            return x
        target = shape
        if sizes[0] != sizes[1]:
            if kind != "broadcast_in_dim":
                raise _untranslated(kind)
            # As many axes, each of length 1 where it is broadcast.
            lengths = dict(zip(params["broadcast_dimensions"], x.shape, strict=True))
            target = tuple(lengths.get(axis, 1) for axis in range(len(shape)))
            if len(shape) < 4:
                return self._expanded(x, target, shape)
        name = x.name

        def make() -> str:
            return self._op("Reshape", name(self._graph), self._integers(target))

        made = Value(shape, make)
        if len(x.shape) == 1 and target == (1, 1, 1, *x.shape):
            made.vector = x
        return made

    def _expanded(self, x: Value, target: tuple[int, ...], shape: tuple[int, ...]) -> Value:
        def make() -> str:
            small = self._op("Reshape", x.name(self._graph), self._integers(target))
            return self._op("Expand", small, self._integers(shape))

        return Value(shape, make)


def _known(value: Any) -> Value:
    array = np.asarray(value)
    if array.dtype in (np.float64, np.int32, np.int64):
        array = array.astype(np.float32)
    return Value(array.shape, constant=array)


def _untranslated(what: str) -> UserError:
    return UserError(
        f"This model uses {what}, which has no translation to ONNX; where it is the features of "
        "the level, give the one --level to bake in, and else take --format stablehlo."
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
    "relu": "Relu",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
    "exp": "Exp",
    "log": "Log",
    "logistic": "Sigmoid",
    "abs": "Abs",
    "pow": "Pow",
    "lt": "Less",
    "gt": "Greater",
}
