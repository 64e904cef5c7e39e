"""Timing in turns, so that a busy machine slows all contenders equally."""

import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

__all__ = [
    "bandwidth_gbs",
    "environment",
    "interleave",
    "macs",
    "matmul_gflops",
    "print_table",
]


def interleave(contenders: dict[str, Callable[[], Any]], *, rounds: int) -> dict[str, float]:
    """Median seconds of each contender over `rounds` turns, after one turn to compile."""
    for run in contenders.values():
        jax.block_until_ready(run())
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def matmul_gflops(*, size: int = 2048, dtype: str = "float32") -> float:
    """The measured peak: GFLOP/s of a large matrix product."""
    matrix = jnp.ones((size, size), dtype)
    product = jax.jit(jnp.dot)
    seconds = interleave({"matmul": lambda: product(matrix, matrix)}, rounds=5)["matmul"]
    return 2 * size**3 / seconds / 1e9


def bandwidth_gbs(*, megabytes: int = 256) -> float:
    """The measured peak: GB/s of reading one large array and writing another."""
    array = jnp.ones(megabytes * 2**18, jnp.float32)
    add = jax.jit(lambda x: x + 1.0)
    seconds = interleave({"add": lambda: add(array)}, rounds=5)["add"]
    return 2 * array.nbytes / seconds / 1e9


def macs(function: Any, *args: Any) -> float:
    """Multiply-adds of one call of a jitted function, from the compiler's own count."""
    return function.lower(*args).compile().cost_analysis()["flops"] / 2


def environment() -> dict[str, str]:
    """Device and versions, for the JSON line."""
    return {
        "device": jax.devices()[0].device_kind,
        "machine": platform.machine(),
        "jax": jax.__version__,
        "python": platform.python_version(),
    }


def print_table(header: list[str], rows: list[list[Any]], summary: dict[str, Any]) -> None:
    """Prints a Markdown table, and as the last line the summary as JSON."""
    print("| " + " | ".join(header) + " |")
    print("|" + " ---: |" * len(header))
    for row in rows:
        cells = [f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row]
        print("| " + " | ".join(cells) + " |", flush=True)
    print(json.dumps(summary | environment()))
