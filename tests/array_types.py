"""Checks, at every call in the tests, the shapes and types of arrays in annotations.

mypy checks all other types.
"""

import functools
import inspect
import types
import typing

import jax.numpy as jnp
import numpy as np
from jaxtyping import AbstractArray

__all__ = ["check_arrays"]


def _arrays(annotation) -> tuple:
    """The array types of an annotation `X`, or `X | Y | None`; empty if it has others too."""
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    members = typing.get_args(annotation) if is_union else (annotation,)
    arrays = tuple(m for m in members if inspect.isclass(m) and issubclass(m, AbstractArray))
    others = [m for m in members if m not in arrays and m is not types.NoneType]
    # Of `ArrayLike`, jaxtyping makes one type per kind of array, and plain numbers.
    numbers = tuple(m for m in others if m in (bool, int, float, complex))
    return (*arrays, *numbers) if arrays and len(numbers) == len(others) else ()


def check_arrays(function):
    """The function, raising TypeError where an array is not as annotated."""
    if not inspect.isfunction(function):
        return function
    wanted = {name: found for name, a in function.__annotations__.items() if (found := _arrays(a))}
    if not wanted:
        return function
    signature = inspect.signature(function)

    def check(name: str, value) -> None:
        if value is None or isinstance(value, wanted[name]):
            return
        # Functions of JAX take arrays of NumPy.
        if isinstance(value, np.ndarray) and isinstance(jnp.asarray(value), wanted[name]):
            return
        shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", type(value))
        expected = " | ".join(each.__name__ for each in wanted[name])
        raise TypeError(f"{function.__qualname__}: {name} is {dtype}{shape}, not {expected}")

    @functools.wraps(function)
    def checked(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in wanted:
                check(name, value)
        result = function(*args, **kwargs)
        if "return" in wanted:
            check("return", result)
        return result

    return checked
