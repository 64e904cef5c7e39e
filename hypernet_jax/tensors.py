"""Arrays of parameters: read from safetensors files in this package's formats, and their hash."""

import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from hypernet_jax.errors import UserError

__all__ = ["fingerprint_of", "read_tensors"]


def fingerprint_of(parameters: Any, *, called: str = "") -> str:
    """A SHA-256 hash of a pytree's arrays and of what they are called, in hexadecimal."""
    total = hashlib.sha256(called.encode())
    for path, leaf in jax.tree.leaves_with_path(parameters):
        array = np.ascontiguousarray(leaf)
        place = f"{jax.tree_util.keystr(path)} {array.shape} {array.dtype}"
        total.update(place.encode() + array.tobytes())
    return total.hexdigest()


def read_tensors(
    path: Path, *, form: str, called: str, holds: str
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns (NumPy arrays by name, metadata).

    Args:
      path: an existing file.
      form: the required value of "format" in its metadata.
      called: what messages call the file, e.g. "weights".
      holds: what it should contain, e.g. "hypernet_jax weights".

    Raises:
      UserError: if it is damaged or in another format.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            flat = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"The {called} {path} {'are' if called.endswith('s') else 'is'} damaged, or no "
            f"safetensors file, and cannot be read ({error})."
        ) from None
    if metadata.get("format") != form:
        raise UserError(f"{path} contains no {holds} ({form} expected).")
    return flat, metadata
