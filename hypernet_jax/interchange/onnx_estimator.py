"""Exports the estimator of all parts of a level, statistics included, as an ONNX graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx.compose
from onnx import helper

from hypernet_jax.axes import LevelAxis
from hypernet_jax.blind import statistics as seen
from hypernet_jax.blind.parts import (
    ESTIMATE_SIDE,
    LARGEST,
    NATURAL_BLUR,
    SIDE,
    TILES,
    PartsEstimator,
    beyond_natural,
    quantile_of,
)
from hypernet_jax.interchange.onnx_graph import Graph
from hypernet_jax.levels import LevelSpace

__all__ = ["export_estimator", "with_estimate"]

_FLOAT = onnx.TensorProto.FLOAT
# Knots of the table that maps z to levels.
_KNOTS = 129


def export_estimator(estimator: PartsEstimator, space: LevelSpace) -> onnx.ModelProto:
    """A model from "image", (1, 3, height, width) in [0, 1], to "level", (A,) in native units.

    It looks at 16 tiles of 192 pixels in the middle 2048x2048 pixels. For images of at least 256
    pixels per side this equals `resolve_level`. Smaller images are continued symmetrically to
    192 pixels and their tiles repeat, so their levels differ.
    """
    build = _Builder()
    tiles = build.op("Mul", _tiles(build, _middle(build)), build.number(255.0))
    opinions = _opinions(build, estimator, _statistics(build, tiles))
    means, weights = _weighted_means(build, opinions, len(space))
    quantiles = [quantile_of(name) for name in space.names]
    raised = build.op("Exp", _weighted_quantiles(build, means, weights, quantiles))
    z = build.op("Sub", raised, build.number(1.0))
    z = build.op("Div", z, build.numbers(estimator.gain[:, None]))
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

    def log(self, x: str, added: float, factor: float) -> str:
        logarithm = self.op("Log", self.op("Add", x, self.number(added)))
        return self.op("Mul", logarithm, self.number(factor))


def _middle(build: _Builder) -> str:
    """The middle of the image, as `inference.requests.resolve_level` takes it."""
    middle = "image"
    for axis in (2, 3):
        length = build.op("Shape", "image", start=axis, end=axis + 1)
        spare = build.op("Sub", length, build.integers(ESTIMATE_SIDE))
        spare = build.op("Max", spare, build.integers(0))
        start = build.op("Div", spare, build.integers(32))
        start = build.op("Mul", start, build.integers(16))
        stop = build.op("Add", start, build.integers(ESTIMATE_SIDE))
        middle = build.op("Slice", middle, start, stop, build.integers(axis))
    return middle


def _tiles(build: _Builder, image: str) -> str:
    """Tiles spread over the image, (TILES^2, 3, SIDE, SIDE); smaller images are padded."""
    picked = image
    for axis in (2, 3):
        shape = build.op("Shape", image, start=axis, end=axis + 1)
        length = build.op("Cast", shape, to=_FLOAT)
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
    """Computes `blind.statistics.statistics` of each tile, (16, F, rows, columns)."""
    weights = build.numbers(seen.PLANES[..., None, None])
    planes = build.op("Conv", tiles, weights, kernel_shape=(1, 1))
    halved = _pooled(build, planes, 2)
    fine, rows = _coefficients(build, planes, seen.BLOCK), SIDE // seen.BLOCK
    energies = _banded(build, build.op("Mul", fine, fine), seen.ORIENTED, rows)
    four = {"kernel_shape": (2, 2), "strides": (2, 2)}
    found = [build.log(build.op("AveragePool", energies, **four), 0.02, 0.5)]
    least = build.op("Neg", build.op("MaxPool", build.op("Neg", energies), **four))
    found.append(build.log(least, 0.02, 0.5))
    for small in _small_coefficients(build, fine, rows):
        found.append(build.op("AveragePool", small, **four))
    found += [_steps(build, planes, axis) for axis in (2, 3)]
    coarse, rows = _coefficients(build, halved, seen.BLOCK), SIDE // seen.CELL
    own = _banded(build, build.op("Mul", coarse, coarse), seen.ORIENTED, rows)
    found.append(build.log(own, 0.02, 0.5))
    # Without luminance.
    radial = seen.RADIAL.shape[1]
    for small in _small_coefficients(build, coarse, rows):
        found.append(build.cut(small, 1, radial, 3 * radial))
    ends = build.integers(0, 0, *[seen.BLOCK // 4] * 2, 0, 0, *[seen.BLOCK // 4] * 2)
    padded = build.op("Pad", _pooled(build, halved, 2), ends, mode="edge")
    coarsest = _coefficients(build, padded, seen.BLOCK // 2)
    own = _banded(build, build.op("Mul", coarsest, coarsest), seen.ORIENTED, rows)
    found.append(build.log(own, 0.02, 0.5))
    light = _pooled(build, planes, seen.CELL)
    found.append(build.op("Div", light, build.number(64.0)))
    return build.op("Concat", *found, axis=1)


def _pooled(build: _Builder, x: str, side: int) -> str:
    return build.op("AveragePool", x, kernel_shape=(side, side), strides=(side, side))


def _coefficients(build: _Builder, planes: str, stride: int) -> str:
    """DCT coefficients of blocks, (16, 3 * 64, rows, columns)."""
    size = seen.BLOCK
    kernels = np.tile(seen.TRANSFORM.reshape((-1, 1, size, size)), (3, 1, 1, 1))
    return build.op(
        "Conv",
        planes,
        build.numbers(kernels),
        kernel_shape=(size, size),
        strides=(stride, stride),
        group=3,
    )


def _banded(build: _Builder, coefficients: str, weights: np.ndarray, rows: int) -> str:
    """Averages of the coefficients of each plane, (16, 3 * bands, rows, rows)."""
    bands = weights.shape[1]
    kernels = np.tile(weights.T[..., None, None], (3, 1, 1, 1))
    made = build.op("Conv", coefficients, build.numbers(kernels), kernel_shape=(1, 1), group=3)
    return build.op("Reshape", made, build.integers(TILES**2, 3 * bands, rows, rows))


def _small_coefficients(build: _Builder, coefficients: str, rows: int) -> list[str]:
    size = build.op("Abs", coefficients)
    found = []
    for end in seen.SMALL:
        less = build.op("Cast", build.op("Less", size, build.number(end)), to=_FLOAT)
        found.append(_banded(build, less, seen.RADIAL, rows))
    return found


def _steps(build: _Builder, planes: str, axis: int) -> str:
    cells, size = SIDE // seen.CELL, seen.CELL
    # The last step of a tile is none.
    after = build.op(
        "Concat",
        build.cut(planes, axis, 1, SIDE),
        build.cut(planes, axis, SIDE - 1, SIDE),
        axis=axis,
    )
    steps = build.op("Abs", build.op("Sub", after, planes))
    # Means across the axis within cells; then the steps of a cell on an axis of their own, first.
    window = (1, size) if axis == 2 else (size, 1)
    means = build.op("AveragePool", steps, kernel_shape=window, strides=window)
    shape = (cells, size, cells) if axis == 2 else (cells, cells, size)
    cut = build.op("Reshape", means, build.integers(TILES**2, 3, *shape))
    turned = build.op("Transpose", cut, perm=(0, 1, 3, 2, 4) if axis == 2 else (0, 1, 4, 2, 3))
    at = np.arange(size) % seen.BLOCK == seen.BLOCK - 1
    flat = build.op("Reshape", turned, build.integers(TILES**2 * 3, size, cells, cells))
    border = build.op("Gather", flat, build.integers(*np.flatnonzero(at)), axis=1)
    weights = build.numbers((~at / (~at).sum())[None, :, None, None])
    others = build.op("Conv", flat, weights, kernel_shape=(1, 1))
    ratio = build.op("Sub", build.log(border, 0.05, 1.0), build.log(others, 0.05, 1.0))
    return build.op("Reshape", ratio, build.integers(TILES**2, 6, cells, cells))


def _opinions(build: _Builder, estimator: PartsEstimator, cells: str) -> str:
    """Computes `blind.parts.apply_layers`; (16, 2 A, rows, columns)."""

    def along_channels(values: np.ndarray) -> str:
        return build.numbers(values[:, None, None])

    x = build.op("Sub", cells, along_channels(estimator.mean))
    x = build.op("Div", x, along_channels(estimator.deviation))
    for number, (kernel, bias) in enumerate(estimator.layers):
        if number:
            x = build.op("LeakyRelu", x, alpha=0.1)
        kernel = kernel if kernel.ndim == 4 else kernel[None, None]
        weights = build.numbers(kernel.transpose(3, 2, 0, 1))
        x = build.op("Conv", x, weights, build.numbers(bias), kernel_shape=kernel.shape[:2])
    return x


def _weighted_means(build: _Builder, opinions: str, parts: int) -> tuple[str, str]:
    """Computes `blind.parts.weighted_mean` of each tile, and the tile's weight; (16, A) each."""
    flat = build.op("Reshape", opinions, build.integers(TILES**2, 2 * parts, -1))
    raw = build.cut(flat, 1, parts, 2 * parts)
    spread = build.op("Mul", build.op("Abs", raw), build.number(1 / LARGEST))
    limited = build.op("Div", raw, build.op("Add", spread, build.number(1.0)))
    # Weights are powers of two.
    weights = build.op("Exp", build.op("Mul", limited, build.number(np.log(2))))
    weighted = build.op("Mul", build.cut(flat, 1, 0, parts), weights)
    last = build.integers(2)
    total = build.op("ReduceSum", weights, last, keepdims=0)
    mean = build.op("Div", build.op("ReduceSum", weighted, last, keepdims=0), total)
    return mean, build.op("Sqrt", build.op("ReduceMean", weights, axes=[2], keepdims=0))


def _weighted_quantiles(
    build: _Builder, values: str, weights: str, quantiles: Sequence[float]
) -> str:
    """Computes `blind.parts.weighted_quantile` of each part; (16, A) and (16, A) to (A, 1)."""
    count = TILES**2
    ordered, places = build.op_of_two(
        "TopK",
        build.op("Transpose", values, perm=(1, 0)),
        build.integers(count),
        axis=-1,
        largest=0,
        sorted=1,
    )
    own = build.op("GatherElements", build.op("Transpose", weights, perm=(1, 0)), places, axis=1)
    own = build.op("Div", own, build.op("ReduceSum", own, build.integers(1), keepdims=1))
    ends = build.op("CumSum", own, build.constant(np.int64(1)))
    middles = build.op("Sub", ends, build.op("Mul", own, build.number(0.5)))

    def steps(x: str) -> str:
        return build.op("Sub", build.cut(x, 1, 1, count), build.cut(x, 1, 0, count - 1))

    # The share of each step between two values that lies below the quantile.
    below = build.op("Sub", build.numbers(np.array(quantiles)[:, None]), middles)
    share = build.op("Div", build.cut(below, 1, 0, count - 1), steps(middles))
    share = build.op("Clip", share, build.number(0.0), build.number(1.0))
    risen = build.op("Mul", share, steps(ordered))
    risen = build.op("ReduceSum", risen, build.integers(1), keepdims=1)
    return build.op("Add", build.cut(ordered, 1, 0, 1), risen)


def _value(build: _Builder, axis: LevelAxis, z: str) -> str:
    """The level for z, interpolated linearly in a table."""
    low, high = sorted(float(axis.normalise(end)) for end in (axis.low, axis.high))
    # Even steps of z, and of the level, denser at both ends, where z may be steep.
    shares = np.linspace(0.0, 1.0, _KNOTS)
    shares = np.concatenate([shares**2, 1.0 - shares**2])
    levels = axis.low + (axis.high - axis.low) * shares
    if axis.name == "blur":  # the kinks of `beyond_natural`
        levels = np.append(levels, NATURAL_BLUR)
    of_levels = np.clip(np.asarray(axis.normalise(levels), np.float64), low, high)
    knots = np.union1d(np.linspace(low, high, _KNOTS), of_levels)
    knots = knots[np.diff(knots, prepend=-np.inf) > 1e-6]
    values = beyond_natural(axis.name, np.asarray(axis.values_at(knots)))
    inside = build.op("Sub", z, build.numbers(knots[:-1]))
    # Limited to the width of each step.
    inside = build.op("Relu", build.op("Min", inside, build.numbers(np.diff(knots))))
    slopes = np.diff(values) / np.diff(knots)
    risen = build.op("MatMul", inside, build.numbers(slopes[:, None]))
    return build.op("Add", risen, build.number(values[0]))
