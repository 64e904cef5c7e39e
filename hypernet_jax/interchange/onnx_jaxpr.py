"""Translates JAX functions to ONNX nodes: networks and level features, from their jaxprs.

Each thus has a single definition, the one used in training. No node depends on the traced sizes
of rows, columns and batches: images stay in ONNX's layout, (N, C, H, W), and broadcasting is left
to the operators.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from hypernet_jax.errors import UserError
from hypernet_jax.interchange.onnx_features import PixelFeatures
from hypernet_jax.interchange.onnx_graph import Graph
from hypernet_jax.interchange.onnx_value import TO_CHANNELS_FIRST, Value
from hypernet_jax.networks.activations import SLOPE

__all__ = ["OIHW", "translate"]

# Axes that turn a kernel of JAX's layout (height, width, in, out) into ONNX's.
OIHW = (3, 2, 0, 1)


def translate(
    graph: Graph,
    function: Callable,
    *inputs: tuple[Value, jax.ShapeDtypeStruct],
    features: PixelFeatures | None = None,
) -> Value:
    """Adds the operations of a JAX function to a graph; returns its only result.

    Args:
      graph: the graph to add to.
      function: consists of convolutions, elementwise arithmetic, matrix products,
        `pixel_shuffle` and `leaky_relu`.
      *inputs: its arguments, each with the shape and dtype to trace.
      features: features of each pixel, if the inputs have banks.

    Raises:
      UserError: for an operation that cannot be translated.
    """
    closed = jax.make_jaxpr(function)(*(traced for _, traced in inputs))
    return _Translation(graph, features).run(
        closed.jaxpr, closed.consts, [value for value, _ in inputs]
    )[0]


class _Translation:
    def __init__(self, graph: Graph, features: PixelFeatures | None):
        self._graph, self._features = graph, features

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
        if params.get("name") == "leaky_relu":
            return [self._leaky_relu(shape, inputs[0])]
        inner = params.get("jaxpr") or params.get("call_jaxpr") or params.get("call")
        if inner is not None:
            closed = hasattr(inner, "jaxpr")
            jaxpr, constants = (inner.jaxpr, inner.consts) if closed else (inner, ())
            return self.run(jaxpr, constants, inputs)
        if equation.primitive.name == "broadcast_in_dim" and len(shape) == 4:
            (x,) = inputs
            if x.constant is not None:
                # Not expanded, because images have other sizes than those traced.
                held = x.constant.reshape(_axes_of_broadcast(params, x.shape, shape))
                return [Value(shape, constant=held)]
        if all(value.is_known for value in inputs):
            found = equation.primitive.bind(*(value.constant for value in inputs), **params)
            return [_known(found)]
        return [self._primitive(equation, inputs, shape)]

    def _primitive(self, equation: Any, inputs: list[Value], shape: tuple[int, ...]) -> Value:
        kind, params = equation.primitive.name, equation.params
        if kind == "conv_general_dilated":
            return self._convolution(inputs, shape, params)
        if kind in _ELEMENTWISE or kind in ("select_n", "integer_pow"):
            return self._elementwise(kind, params, inputs, shape)
        if kind == "convert_element_type":
            old, new = equation.invars[0].aval.dtype, params["new_dtype"]
            if not np.can_cast(old, new, "safe") and old.kind not in "iu":
                raise _untranslated(f"a conversion from {old} to {new}")
            return inputs[0]
        if kind in ("copy", "stop_gradient", "copy_p"):
            return inputs[0]
        if kind == "concatenate":
            return self._concatenate(inputs, shape, params["dimension"])
        if kind == "dot_general" and params["dimension_numbers"] == (((0,), (0,)), ((), ())):
            return self._weighted_sum(shape, *inputs)
        if kind == "dot_general" and params["dimension_numbers"] == (((3,), (0,)), ((), ())):
            return self._of_channels(inputs, shape)
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
            return self._op("DepthToSpace", x.image_name(self._graph), blocksize=factor, mode="CRD")

        return Value(shape, make, is_image=True)

    def _leaky_relu(self, shape: tuple[int, ...], x: Value) -> Value:
        def make() -> str:
            return self._op("LeakyRelu", self._operand(x, x.is_image), alpha=SLOPE)

        return Value(shape, make, is_image=x.is_image)

    def _convolution(self, inputs: list[Value], shape: tuple[int, ...], params: Any) -> Value:
        x, kernel = inputs
        plain = (1, 1) == params["lhs_dilation"] == params["rhs_dilation"]
        numbers = params["dimension_numbers"]
        layout = (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec)
        if not plain or layout != (TO_CHANNELS_FIRST, OIHW, TO_CHANNELS_FIRST):
            raise _untranslated("a dilated convolution or one of another layout")
        lows, highs = zip(*params["padding"], strict=True)

        def convolved(kernel: Value, bias: Value | None) -> str:
            names = [x.image_name(self._graph), self._kernel(kernel)]
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

        def make(bias: Value | None = None) -> str:
            if kernel.bank is None and (bias is None or bias.bank is None):
                return convolved(kernel, bias)
            return self._per_pixel(convolved, kernel, bias, shape)

        made = Value(shape, make, is_image=True)
        made.convolution = make
        return made

    def _per_pixel(
        self,
        convolved: Callable[[Value, Value | None], str],
        kernel: Value,
        bias: Value | None,
        shape: tuple[int, ...],
    ) -> str:
        """A convolution with a different kernel or bias at each pixel.

        A convolution is linear in both, so it is a sum over features, weighted at each pixel.
        """
        assert self._features is not None
        factor = self._features.height // shape[1]
        if kernel.bank is None:
            assert bias is not None and bias.bank is not None
            names = self._features.all(factor), bias.stored_bank(self._graph, _pointwise)
            of_level = self._op("Conv", *names, kernel_shape=(1, 1))
            return self._op("Add", convolved(kernel, None), of_level)
        total = None
        for index in range(len(kernel.bank)):
            own = None
            if bias is not None and bias.bank is not None:
                own = bias.of_feature(index)
            term = convolved(kernel.of_feature(index), own)
            plane = self._features.plane(index, factor)
            if plane is not None:
                term = self._op("Mul", term, plane)
            total = term if total is None else self._op("Add", total, term)
        assert total is not None
        if bias is not None and bias.bank is None:
            shape = (1, -1, 1, 1)
            same = self._op("Reshape", bias.name(self._graph), self._integers(shape))
            total = self._op("Add", total, same)
        return total

    def _of_channels(self, inputs: list[Value], shape: tuple[int, ...]) -> Value:
        """A matrix product over the channels of each pixel."""
        x, matrix = inputs
        if matrix.bank is not None:
            matrix.name(self._graph)
        if not matrix.is_stored or len(matrix.shape) != 2:
            raise _untranslated("a product of an image")

        def make() -> str:
            names = x.image_name(self._graph), matrix.stored(self._graph, _pointwise)
            return self._op("Conv", *names, kernel_shape=(1, 1))

        return Value(shape, make, is_image=True)

    def _kernel(self, kernel: Value) -> str:
        """A kernel in ONNX's layout; of a weighted sum, the constants are transposed instead."""
        if kernel.is_stored:
            return kernel.stored(self._graph, _oihw)
        if kernel.mixture is not None:
            weights, bank = kernel.mixture
            shape = tuple(kernel.shape[axis] for axis in OIHW)
            return self._mixed(weights, bank.stored(self._graph, _flat_oihw), shape)
        return self._op("Transpose", kernel.name(self._graph), perm=OIHW)

    def _mixed(self, weights: Value, flat: str, shape: tuple[int, ...]) -> str:
        mixed = self._op("MatMul", weights.name(self._graph), flat)
        return self._op("Reshape", mixed, self._integers(shape))

    def _weighted_sum(self, shape: tuple[int, ...], weights: Value, bank: Value) -> Value:
        if not bank.is_stored:
            names = [value.name(self._graph) for value in (weights, bank)]
            return Value(shape, lambda: self._op("MatMul", *names))
        made = Value(shape, lambda: self._mixed(weights, bank.stored(self._graph, _flat), shape))
        made.mixture = (weights, bank)
        return made

    def _elementwise(
        self, kind: str, params: Any, inputs: list[Value], shape: tuple[int, ...]
    ) -> Value:
        is_image = any(value.is_image for value in inputs)
        if kind == "add" and is_image:
            for one, other in (inputs, inputs[::-1]):
                # Biases become part of the convolution, which is faster.
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
            return value.image_name(self._graph)
        return value.name(self._graph)

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
                    # A plane that has not been broadcast yet.
                    target = self._op(
                        "Concat", batch, self._integers([value.shape[-1]]), sides, axis=0
                    )
                    names[index] = self._op("Expand", names[index], target)
            return self._op("Concat", *names, axis=TO_CHANNELS_FIRST.index(axis))

        made = Value(shape, make, is_image=is_image)
        if is_image and axis == 3:
            made.parts = tuple(inputs)
        return made

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
            # All axes, with length 1 where they are broadcast.
            target = _axes_of_broadcast(params, x.shape, shape)
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


def _axes_of_broadcast(
    params: Any, given: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[int, ...]:
    """The shape before broadcasting, with all axes."""
    lengths = dict(zip(params["broadcast_dimensions"], given, strict=True))
    return tuple(lengths.get(axis, 1) for axis in range(len(shape)))


def _oihw(kernel: np.ndarray) -> np.ndarray:
    return kernel.transpose(OIHW)


def _flat(bank: np.ndarray) -> np.ndarray:
    return bank.reshape(len(bank), -1)


def _flat_oihw(bank: np.ndarray) -> np.ndarray:
    return _flat(bank.transpose(0, *(axis + 1 for axis in OIHW)))


def _pointwise(matrix: np.ndarray) -> np.ndarray:
    """A matrix (in, out) as the kernel of a convolution of 1x1."""
    return matrix.T[:, :, None, None]


def _known(value: Any) -> Value:
    array = np.asarray(value)
    if array.dtype in (np.float64, np.int32, np.int64):
        array = array.astype(np.float32)
    return Value(array.shape, constant=array)


def _untranslated(what: str) -> UserError:
    return UserError(
        f"This model uses {what}, which cannot be translated to ONNX; if it is in the features of "
        "the level, give a single --level to bake in, otherwise use --format stablehlo."
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
