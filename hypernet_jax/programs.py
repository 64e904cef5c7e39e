"""Compiled functions, shared by everything that computes the same."""

import functools
from collections.abc import Callable
from typing import Any

import jax

__all__ = ["compiled"]

_KEPT = 128


@functools.lru_cache(_KEPT)
def _shared(function: Callable, fixed: tuple[Any, ...]) -> Any:
    return jax.jit(functools.partial(function, *fixed))


def compiled(function: Callable, *fixed: Any) -> Any:
    """`function` with its first arguments fixed, jitted: one object for equal arguments.

    So a second `Restorer` of a network traces and compiles nothing anew.
    """
    try:
        return _shared(function, fixed)
    except TypeError:  # arguments without a hash, such as a network with an array as attribute
        return jax.jit(functools.partial(function, *fixed))
