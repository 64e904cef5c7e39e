"""Starts JAX, and reports problems with its devices in one sentence before any work."""

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator

import jax

from hypernet_jax.errors import UserError
from hypernet_jax.plugins import load_plugins

__all__ = ["ordinary_arithmetic", "start_jax"]

# Bytes of address space that JAX takes for its code, threads and heap, without any image.
_LEAST_ADDRESSES = 2_000_000_000

_started = False
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = _started


# Windows has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def start_jax() -> None:
    """Makes sure that JAX has its devices.

    Raises:
      UserError: if the devices requested by the environment are missing, if the process is
        limited to too little memory, or if it was forked after JAX had started.
    """
    global _started
    if _forked:
        raise UserError(
            "JAX does not work in a process that was forked after JAX had started; start it with "
            "multiprocessing.get_context('spawn') instead."
        )
    if _started:
        load_plugins()
        return
    _check_addresses()
    try:
        jax.devices()
    # JAX raises an AssertionError if it knows the platform but finds no device.
    except (RuntimeError, AssertionError) as error:
        raise UserError(_without_devices(error)) from None
    _started = True
    load_plugins()


def _check_addresses() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < _LEAST_ADDRESSES:
        raise UserError(
            f"This process is limited to {limit / 1e6:.0f} MB of address space (ulimit -v), but "
            f"JAX needs at least {_LEAST_ADDRESSES / 1e6:.0f} MB; raise the limit."
        )


def _without_devices(error: Exception) -> str:
    reason = (str(error).splitlines() or ["there is none"])[0].partition(" (set JAX_PLATFORMS")[0]
    reason = reason.rstrip(".")
    names = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")
    given = [name for name in names if os.environ.get(name)]
    # The variable whose value the error mentions, if any.
    asked = next((name for name in given if os.environ[name] in reason), next(iter(given), None))
    found = importlib.metadata.entry_points(group="jax_plugins")
    there = ", ".join(["cpu", *sorted({plugin.name for plugin in found})])
    if asked is None:
        return f"JAX cannot use its devices ({reason}); set JAX_PLATFORMS=cpu to do without them."
    return (
        f"JAX finds no device for {asked}={os.environ[asked]} ({reason}); unset it, or choose "
        f"an installed platform: {there}."
    )


@contextlib.contextmanager
def ordinary_arithmetic() -> Iterator[None]:
    """Turns off, in this thread, JAX's strict checks of promotion and transfers.

    A program may turn them on for its own code: JAX_NUMPY_RANK_PROMOTION=raise,
    JAX_NUMPY_DTYPE_PROMOTION=strict, JAX_TRANSFER_GUARD=disallow.
    """
    with (
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
        jax.transfer_guard("allow"),
    ):
        yield
