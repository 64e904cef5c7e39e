"""Tries the degradation of a task, so that mistakes in it are reported before the first step."""

import dataclasses
import functools
import traceback
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hypernet_jax.degradations import Chain, Operator
from hypernet_jax.errors import UserError
from hypernet_jax.tasks import Task

__all__ = ["check_degradation"]


def check_degradation(task: Task, *, side: int, colours: int) -> None:
    """Tries each operator of the degradation on crops, as training and validation run it.

    Operators of the package that JAX can trace are traced, and not run.

    Args:
      task: the task.
      side: of the crops, in pixels.
      colours: channels of the network.

    Raises:
      UserError: if an operator fails, changes the shape, gives values that are not finite or in
        0..1, or does not draw from its key alone.
    """
    # A chain on the host degrades grey crops as images of one channel.
    channels = {colours} if task.degradation.traceable else {colours, 1}
    for operator in task.degradation.operators:
        values: tuple[float | None, ...] = (None,)
        if operator.axis is not None:
            axis = task.space.axes[task.space.names.index(operator.axis)]
            values = (axis.low, axis.high, axis.neutral)
        shapes = tuple(
            shape
            for count in sorted(channels, reverse=True)
            for shape in ((2, side, side, count), (side, side, count))
        )
        try:
            problem = _problem(operator, values, shapes)
        except TypeError:  # a function without a hash
            problem = _problem.__wrapped__(operator, values, shapes)
        if problem:
            raise UserError(f"The operator {_name(operator)} of the task {task.name} {problem}.")


@functools.cache
def _problem(operator: Operator, values: tuple[float | None, ...], shapes: Any) -> str | None:
    """What is wrong with an operator, tried at its lowest, highest and neutral value."""
    if operator.traceable and _is_ours(operator):
        shapes = shapes[:1]
    for shape in shapes:
        try:
            problem = _traced(operator, shape, values) if operator.traceable else None
            if problem is None and not (operator.traceable and _is_ours(operator)):
                problem = _run(operator, shape, values)
        # It is the user's own code.
        except Exception as error:
            problem = _failure(operator, error, shape, values)
        if problem is not None:
            return problem
    return None


def _name(operator: Operator) -> str:
    return getattr(operator.function, "__name__", type(operator.function).__name__)


def _is_ours(operator: Operator) -> bool:
    return str(getattr(operator.function, "__module__", "")).startswith("hypernet_jax.")


def _level(operator: Operator, value: Any) -> dict[str, Any]:
    return {} if operator.axis is None else {operator.axis: value}


def _traced(operator: Operator, shape: tuple[int, ...], values: Any) -> str | None:
    """Traces an operator; returns what is wrong with it."""
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    value = None if values == (None,) else jax.ShapeDtypeStruct((), jnp.float32)

    def of_value(key, image, value):
        return operator(key, image, _level(operator, value))

    key = jax.random.key(0) if operator.random else None
    program, found = jax.make_jaxpr(of_value, return_shape=True)(key, image, value)
    if problem := _wrong_result(found, shape):
        return problem
    if operator.random:
        drawn = program.jaxpr.invars[0]
        if not any(drawn is each for line in program.eqns for each in line.invars):
            return (
                "is said to be random and does not use its key; draw from it with jax.random, "
                "because np.random would draw once, when the program is compiled"
            )
    return None


def _run(operator: Operator, shape: tuple[int, ...], values: Any) -> str | None:
    """Runs an operator as training does; returns what is wrong with it."""
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)
    degrade = Chain(operator)
    for value in values:
        level = {} if value is None else _level(operator, np.float32(value))
        key = jax.random.key(0) if operator.random else None
        found, again = (degrade(key, image.copy(), level) for _ in range(2))
        if problem := _wrong_result(found, shape):
            return problem
        found = np.asarray(found)
        if not np.isfinite(found).all():
            return f"gives values that are not finite at {value}"
        # At the neutral value, the last, the image must still be there.
        if value == values[-1] and found.min() >= 0 and found.max() <= 1:
            return "makes values in 0..1 of an image in 0..255; keep the range"
        if not np.array_equal(found, again):
            return (
                "gives different images for the same key; draw from it alone, as "
                "hypernet_jax.degradations.host.each_with_generator does"
            )
    return None


def _wrong_result(found: Any, shape: tuple[int, ...]) -> str | None:
    if found is None:
        return "returns nothing; let it return the image"
    if getattr(found, "shape", None) == shape:
        return None
    kind = getattr(found, "shape", type(found).__name__)
    return f"makes {kind} of an image of shape {shape}; keep the shape"


def _works_with(changes: dict[str, Any], operator: Operator, shape: Any, values: Any) -> bool:
    """Whether nothing is wrong with the operator with some of its fields changed."""
    changed = dataclasses.replace(operator, **changes)
    try:
        return (_traced if changed.traceable else _run)(changed, shape, values) is None
    except Exception:
        return False


def _failure(operator: Operator, error: Exception, shape: tuple[int, ...], values: Any) -> str:
    """What an error of an operator most likely means, and where it was."""
    kind = type(error).__name__
    reason = f"fails on an image of shape {shape}"
    if operator.traceable and kind in (
        "TracerArrayConversionError",
        "TracerBoolConversionError",
        "TracerIntegerConversionError",
        "ConcretizationTypeError",
    ):
        reason = (
            "cannot be traced by JAX; use jax.numpy, with jnp.where for branches, or make it "
            "Operator(..., traceable=False)"
        )
    elif not operator.random and _works_with({"random": True}, operator, shape, values):
        reason = "needs a key; make it Operator(..., random=True)"
    elif operator.axis is None and _works_with({"axis": "value"}, operator, shape, (0.0, 1.0)):
        reason = "gets no value; make it Operator(..., axis=NAME) with the name of its part"
    code = getattr(operator.function, "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    place = f" at {own[-1].filename}, line {own[-1].lineno}" if own else ""
    lines = str(error).strip().splitlines() or [""]
    return f"{reason} ({kind}{place}: {lines[0].rstrip('.')})"
