"""Level estimators as functions and files."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from hypernet_jax.errors import UserError
from hypernet_jax.files import write_atomically
from hypernet_jax.networks.level_estimator import LevelEstimator

__all__ = ["apply_estimator", "init_estimator", "load_estimator", "save_estimator"]

_FORMAT = "hypernet_jax_estimator/1"
_FOLDER = Path(__file__).parent.parent / "pretrained" / "estimators"


def init_estimator(key: jax.Array, *, colours: int, channels: int) -> dict:
    """Fresh parameters of a `LevelEstimator`."""
    network = LevelEstimator(channels=channels)
    return network.init(key, np.zeros((1, 32, 32, colours), np.float32))["params"]


def apply_estimator(params: dict, images: Any) -> jax.Array:
    """z of (N, H, W, C) images in [0, 1], C = 1 or 3; shape (N,)."""
    if images.shape[-1] == 1:
        images = jnp.repeat(images, 3, axis=-1)
    channels = params["head"]["bias"].shape[0]
    z = LevelEstimator(channels=channels).apply({"params": params}, images)
    assert isinstance(z, jax.Array)
    return z


def save_estimator(path: str | Path, params: dict, *, task: str, overwrite: bool = False) -> None:
    """Writes an estimator of a task's level as safetensors; raises `UserError` as all files do."""
    flat = traverse_util.flatten_dict(jax.tree.map(np.asarray, params), sep="/")
    metadata = {"format": _FORMAT, "estimator": json.dumps({"task": task})}
    write_atomically(path, save(flat, metadata=metadata), overwrite=overwrite)


@functools.cache
def load_estimator(task: str) -> tuple[dict, Callable] | None:
    """(params, compiled function of (params, images)) of the package's estimator, or None."""
    path = _FOLDER / f"{task}.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            flat = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"The estimator {path} is damaged and cannot be read ({error}).") from None
    if metadata.get("format") != _FORMAT:
        raise UserError(f"{path} holds no level estimator ({_FORMAT} expected).")
    return traverse_util.unflatten_dict(flat, sep="/"), jax.jit(apply_estimator)
