"""Exports the estimator of all parts of a level, statistics included, as an ONNX graph."""

from typing import Any

import numpy as np
import onnx
import onnx.compose
import scipy.fft
from onnx import helper

from hypernet_jax.blind import statistics as seen
from hypernet_jax.blind.parts import SIDE, TILES, PartsEstimator
from hypernet_jax.interchange.onnx_graph import Graph
from hypernet_jax.levels import LevelAxis, LevelSpace

__all__ = ["export_estimator", "with_estimate"]

# Knots of the table that maps z to levels.
_KNOTS = 129


def export_estimator(estimator: PartsEstimator, space: LevelSpace) -> onnx.ModelProto:
    """A model from "image", (1, 3, height, width) in [0, 1], to "level", (A,) in native units.

    It takes the median over 16 tiles of 192 pixels. For images of at least 256 pixels per side
    this equals `PartsEstimator.estimate`, which skips repeated tiles of smaller images.
    """
    build = _Builder()
    tiles = build.op("Mul", _tiles(build), build.number(255.0))
    x = _statistics(build, tiles)
    x = build.op("Sub", x, build.numbers(estimator.mean))
    x = build.op("Div", x, build.numbers(estimator.deviation))
    for number, (kernel, bias) in enumerate(estimator.layers):
        if number:
            x = build.op("Relu", x)
        x = build.op("Add", build.op("MatMul", x, build.numbers(kernel)), build.numbers(bias))
    # The median over tiles, (A, 1).
    z = build.quantiles(build.op("Transpose", x, perm=(1, 0)), TILES**2, (0.5,))
    parts = [_value(build, axis, build.cut(z, 0, n, n + 1)) for n, axis in enumerate(space.axes)]
    level = build.op("Reshape", build.op("Concat", *parts, axis=0), build.integers(len(space)))
    return build.model(
        inputs=[("image", (1, 3, "height", "width"))],
        output=(level, "level", (len(space),)),
        metadata={"parts": list(space.names)},
    )


def with_estimate(
    model: onnx.ModelProto, estimator: PartsEstimator, space: LevelSpace
) -> onnx.ModelProto:
    """Replaces the input "level" of a model by the estimator; it then takes one image at a time.

    Args:
      model: a model with inputs "image" and "level".
      estimator: estimates the level.
      space: space of the level.
    """
    own = onnx.compose.add_prefix(export_estimator(estimator, space), "estimate_").graph
    inner = model.graph
    first = helper.make_node("Identity", ["image"], ["estimate_image"])
    last = helper.make_node("Identity", ["estimate_level"], ["level"])
    image = next(each for each in inner.input if each.name == "image")
    for described in (image, inner.output[0]):
        described.type.tensor_type.shape.dim[0].Clear()
        described.type.tensor_type.shape.dim[0].dim_value = 1
    joined = helper.make_graph(
        [first, *own.node, last, *inner.node],
        inner.name,
        [image],
        inner.output,
        [*own.initializer, *inner.initializer],
    )
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.graph.CopyFrom(joined)
    onnx.checker.check_model(made, full_check=True)
    return made


class _Builder(Graph):
    """A graph with helpers for nodes with constant inputs."""

    def number(self, value: float) -> str:
        return self.constant(np.float32(value))

    def numbers(self, values: Any) -> str:
        return self.constant(np.asarray(values, np.float32))

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def cut(self, x: str, axis: int, start: int, stop: int) -> str:
        return self.op("Slice", x, self.integers(start), self.integers(stop), self.integers(axis))

    def mean(self, x: str, *axes: int) -> str:
        return self.op("ReduceMean", x, axes=axes, keepdims=0)

    def log(self, x: str, added: float) -> str:
        return self.op("Log", self.op("Add", x, self.number(added)))

    def sorted(self, x: str, count: int) -> tuple[str, str]:
        """Values sorted in ascending order along the last axis, and their indices."""
        return self.op_of_two("TopK", x, self.integers(count), axis=-1, largest=0, sorted=1)

    def quantiles(self, x: str, count: int, shares: tuple[float, ...]) -> str:
        """Quantiles of `count` values along the last axis, interpolated linearly as in NumPy."""
        weights = np.zeros((count, len(shares)))
        for column, share in enumerate(shares):
            place = share * (count - 1)
            low = min(int(place), count - 2)
            weights[low, column] += low + 1 - place
            weights[low + 1, column] += place - low
        return self.op("MatMul", self.sorted(x, count)[0], self.numbers(weights))

    def flat(self, x: str) -> str:
        """Flattens (16, ...) to (16, F)."""
        return self.op("Flatten", x, axis=1)


def _tiles(build: _Builder) -> str:
    """Tiles spread over the image, (TILES^2, 3, SIDE, SIDE); smaller images are padded."""
    picked = "image"
    for axis in (2, 3):
        shape = build.op("Shape", "image", start=axis, end=axis + 1)
        length = build.op("Cast", shape, to=onnx.TensorProto.FLOAT)
        spare = build.op("Relu", build.op("Sub", length, build.number(SIDE)))
        shares = build.numbers(np.arange(TILES)[:, None] / (TILES - 1) / 16)
        # The small offset keeps whole numbers from being rounded down.
        sixteenths = build.op(
            "Floor", build.op("Add", build.op("Mul", spare, shares), build.number(1e-4))
        )
        starts = build.op("Mul", sixteenths, build.number(16.0))
        places = build.op("Add", starts, build.numbers(np.arange(SIDE)[None]))
        # Symmetric padding: forth and back.
        twice = build.op("Mul", length, build.number(2.0))
        turns = build.op("Floor", build.op("Div", places, twice))
        places = build.op("Sub", places, build.op("Mul", turns, twice))
        back = build.op("Sub", build.op("Sub", twice, build.number(1.0)), places)
        index = build.op("Cast", build.op("Min", places, back), to=onnx.TensorProto.INT64)
        picked = build.op("Gather", picked, index, axis=axis if axis == 2 else 4)
    # (1, 3, TILES, SIDE, TILES, SIDE)
    turned = build.op("Transpose", picked, perm=(0, 2, 4, 1, 3, 5))
    return build.op("Reshape", turned, build.integers(TILES**2, 3, SIDE, SIDE))


def _statistics(build: _Builder, tiles: str) -> str:
    """Computes `blind.statistics.statistics` of each tile, (16, F)."""
    weights = build.numbers(seen.PLANES[..., None, None])
    planes = build.op("Conv", tiles, weights, kernel_shape=(1, 1))
    found, scaled, side = [], planes, SIDE
    for _ in range(seen.SCALES):
        found += _of_scale(build, scaled, side)
        scaled, side = _halved(build, scaled), side // 2
    found += [*_steps(build, planes, 8), *_steps(build, planes, 16)]
    found += _small_coefficients(build, planes, SIDE)
    halved = _small_coefficients(build, _halved(build, planes), SIDE // 2)
    found += [build.cut(shares, 1, 1, 3) for shares in halved]
    return build.op("Concat", *map(build.flat, found), axis=1)


def _pooled(build: _Builder, x: str, side: int) -> str:
    return build.op("AveragePool", x, kernel_shape=(side, side), strides=(side, side))


def _halved(build: _Builder, planes: str) -> str:
    return _pooled(build, planes, 2)


def _of_scale(build: _Builder, planes: str, side: int) -> list[str]:
    block = seen.BLOCK
    count = (side // block) ** 2
    ends = build.integers(0, 0, 1, 1, 0, 0, 1, 1)
    padded = build.op("Pad", planes, ends, mode="edge")
    laplacian = np.array([[0, -1, 0], [-1, 4, -1], [0, -1, 0]])
    kernel = build.numbers(np.tile(laplacian, (3, 1, 1, 1)))
    differences = build.op("Conv", padded, kernel, kernel_shape=(3, 3), group=3)
    square = build.op("Mul", differences, build.op("Div", differences, build.number(20.0)))
    in_blocks = build.integers(TILES**2, 3, count)
    energies = build.op("Reshape", _pooled(build, square, block), in_blocks)

    def logarithms(quantiles: str) -> str:
        """Half the logarithms of (16, 3, Q), as (16, Q, 3)."""
        turned = build.op("Transpose", quantiles, perm=(0, 2, 1))
        return build.op("Div", build.log(turned, 0.02), build.number(2.0))

    found = [logarithms(build.quantiles(energies, count, seen.QUANTILES))]
    light = build.op("Reshape", _pooled(build, planes, block), in_blocks)
    light = build.op("Reshape", build.cut(light, 1, 0, 1), build.integers(TILES**2, count))
    ordered, places = build.sorted(light, count)
    unit = build.number(64.0)
    for third in np.array_split(np.arange(count), 3):
        start, stop = int(third[0]), int(third[-1]) + 1
        where = build.op("Unsqueeze", build.cut(places, 1, start, stop), build.integers(1))
        shape = build.integers(TILES**2, 3, len(third))
        own = build.op("GatherElements", energies, build.op("Expand", where, shape), axis=2)
        found.append(logarithms(build.quantiles(own, len(third), (0.1, 0.3))))
        mean = build.op("ReduceMean", build.cut(ordered, 1, start, stop), axes=(1,), keepdims=1)
        found.append(build.op("Div", mean, unit))
    centred = build.op("Sub", light, build.op("ReduceMean", light, axes=(1,), keepdims=1))
    variance = build.op("ReduceMean", build.op("Mul", centred, centred), axes=(1,), keepdims=1)
    return [*found, build.op("Div", build.op("Sqrt", variance), unit)]


def _steps(build: _Builder, planes: str, period: int) -> list[str]:
    found = []
    for axis in (2, 3):
        after, before = build.cut(planes, axis, 1, SIDE), build.cut(planes, axis, 0, SIDE - 1)
        steps = build.mean(build.op("Abs", build.op("Sub", after, before)), 5 - axis)
        at = np.arange(SIDE - 1) % period == period - 1
        # (16, 3, SIDE - 1) to (16, 3).
        border, others = (
            build.op("MatMul", steps, build.numbers(chosen / chosen.sum())) for chosen in (at, ~at)
        )
        found.append(build.op("Sub", build.log(border, 0.05), build.log(others, 0.05)))
    return found


def _small_coefficients(build: _Builder, planes: str, side: int) -> list[str]:
    block = seen.BLOCK
    rows = side // block
    cut = build.op("Reshape", planes, build.integers(TILES**2, 3, rows, block, rows, block))
    blocks = build.op("Transpose", cut, perm=(0, 1, 2, 4, 3, 5))
    matrix = scipy.fft.dct(np.eye(block), axis=0, norm="ortho")
    turned = build.op("MatMul", build.numbers(matrix), blocks)
    size = build.op("Abs", build.op("MatMul", turned, build.numbers(matrix.T)))
    sums = np.add.outer(np.arange(block), np.arange(block))
    small = {}
    for end in seen.SMALL:
        less = build.op("Less", size, build.number(end))
        small[end] = build.mean(build.op("Cast", less, to=onnx.TensorProto.FLOAT), 2, 3)
    found = []
    for low, high in seen.BANDS:
        inside = (sums >= low) & (sums <= high)
        weights = build.numbers(inside / inside.sum())
        for end in seen.SMALL:
            found.append(
                build.op(
                    "ReduceSum",
                    build.op("Mul", small[end], weights),
                    build.integers(2, 3),
                    keepdims=0,
                )
            )
    return found


def _value(build: _Builder, axis: LevelAxis, z: str) -> str:
    """The level for z, interpolated linearly in a table."""
    low, high = sorted(float(axis.normalise(end)) for end in (axis.low, axis.high))
    knots = np.linspace(low, high, _KNOTS)
    values = np.asarray(axis.values_at(knots))
    inside = build.op("Sub", z, build.numbers(knots[:-1]))
    inside = build.op("Clip", inside, build.number(0.0), build.number(knots[1] - knots[0]))
    slopes = np.diff(values) / np.diff(knots)
    risen = build.op("MatMul", inside, build.numbers(slopes[:, None]))
    return build.op("Add", risen, build.number(values[0]))
