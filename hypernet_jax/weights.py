"""Weights in one safetensors file: theta, with the config of its model in the metadata."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from safetensors.numpy import save

from hypernet_jax.buckets import patiently
from hypernet_jax.errors import UserError
from hypernet_jax.hypernet import Theta
from hypernet_jax.model import Model, make_model, missing_fields
from hypernet_jax.runtime import ordinary_arithmetic, start_jax
from hypernet_jax.storage import local_copy, storage_path, write_whole
from hypernet_jax.tasks import TASKS
from hypernet_jax.tensors import read_tensors

__all__ = [
    "check_shipped",
    "load_weights",
    "load_weights_and_config",
    "pretrained_names",
    "save_weights",
    "shipped_tasks",
]

_FORMAT = "hypernet_jax/1"
_PRETRAINED = Path(__file__).parent / "pretrained"


def pretrained_names() -> list[str]:
    """Names of the shipped weights."""
    return sorted(path.stem for path in _PRETRAINED.glob("*.safetensors"))


def shipped_tasks() -> list[str]:
    """Names of the tasks with shipped weights, in the order of `TASKS`."""
    names = pretrained_names()
    return [task for task in TASKS if task in names]


def check_shipped(task: str) -> None:
    """Raises `UserError` for a task that has no shipped weights, or is unknown."""
    shipped = shipped_tasks()
    if task not in shipped:
        known = task in TASKS
        what = f"No weights for {task} ship with the package" if known else f"Unknown task {task!r}"
        raise UserError(f"{what}; choose one of {', '.join(shipped)}, or give --weights FILE.")


def save_weights(
    path: str | Path,
    theta: Theta,
    config: dict[str, Any],
    *,
    half: bool = False,
    overwrite: bool = False,
) -> None:
    """Writes weights; the file appears only when it is complete.

    Args:
      path: a file name ending in .safetensors, or a URL.
      theta: the hypernetwork's parameters.
      config: what `model_config` returns.
      half: store 16-bit floats, half the size; they are read back as 32-bit floats.
      overwrite: replace an existing file.

    Raises:
      UserError: if a parameter is not finite or too large for 16 bits, or the file cannot be
        written.
    """
    # Paths in "generated" and "shared" already contain slashes, so "|" joins the nested keys.
    flat = traverse_util.flatten_dict(jax.tree.map(np.asarray, theta), sep="|")
    if not all(np.isfinite(leaf).all() for leaf in flat.values()):
        raise UserError(
            "A parameter is not finite because its training diverged; take an earlier "
            "checkpoint, or train with a lower config.optimizer.learning_rate."
        )
    if half:
        with np.errstate(over="ignore"):  # checked below
            flat = {name: leaf.astype(np.float16) for name, leaf in flat.items()}
        if not all(np.isfinite(leaf).all() for leaf in flat.values()):
            raise UserError("A parameter is not finite in 16 bits; store 32 bits, without --half.")
    metadata = {"format": _FORMAT, "model": json.dumps(config, sort_keys=True)}
    write_whole(path, save(flat, metadata=metadata), overwrite=overwrite)


def load_weights(name: str | Path) -> tuple[Model, Theta]:
    """Reads weights.

    Args:
      name: the name of shipped weights ("denoise"), a file or a URL.

    Returns:
      The model and its theta.

    Raises:
      UserError: if there are no such weights, or the file is damaged or in another format.
    """
    return load_weights_and_config(name)[:2]


@ordinary_arithmetic()
def load_weights_and_config(name: str | Path) -> tuple[Model, Theta, dict[str, Any]]:
    """As `load_weights`, but also returns the config that `save_weights` stored."""
    start_jax()
    named = str(name) in pretrained_names()
    path = _PRETRAINED / f"{name}.safetensors" if named else storage_path(name)
    if not (path.is_file() if isinstance(path, Path) else patiently(path.is_file, path)):
        raise UserError(
            f"There are no weights {str(name)!r}; give a .safetensors file or one of: "
            f"{', '.join(pretrained_names())}."
        )
    with local_copy(path) as file:
        flat, metadata = read_tensors(
            file, form=_FORMAT, called="weights", holds="hypernet_jax weights"
        )
    try:
        config = json.loads(metadata["model"])
        if missing_fields(config):
            raise KeyError(", ".join(missing_fields(config)))
        model = make_model(config)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"The weights {path} do not describe their model ({error}).") from None
    leaves = {name: jnp.asarray(leaf.astype(np.float32)) for name, leaf in flat.items()}
    expected = model.shapes()
    theta = {group: {} for group in expected} | traverse_util.unflatten_dict(leaves, sep="|")
    if jax.tree.map(jnp.shape, theta) != jax.tree.map(lambda leaf: leaf.shape, expected):
        raise UserError(f"The weights {path} do not fit the model in their metadata.")
    return model, theta, config
