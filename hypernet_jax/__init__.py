"""One hypernetwork, from a degradation level to the parameters of a restoration network.

    level -> features -> kernel bank -> params -> network.apply -> restored image

`Restorer` restores images with trained weights; `HyperNetwork` makes any Flax
network adaptive; `Model` joins a network, a hypernetwork and a task.
"""

import importlib
from typing import TYPE_CHECKING

from hypernet_jax.errors import UserError
from hypernet_jax.version import __version__

if TYPE_CHECKING:
    from hypernet_jax.axes import (
        BLUR_SIGMA,
        JPEG_QUALITY,
        NOISE_SIGMA,
        SCALE_FACTOR,
        LevelAxis,
    )
    from hypernet_jax.evaluation.measure import evaluate
    from hypernet_jax.features import Affine, Mlp, Polynomial, Proportional
    from hypernet_jax.hypernet import HyperNetwork, count_parameters, path_matches
    from hypernet_jax.inference.restorer import Restorer
    from hypernet_jax.levels import Level, LevelSpace
    from hypernet_jax.model import Model, make_model
    from hypernet_jax.networks.registry import register_network
    from hypernet_jax.networks.residual import ResidualNetwork
    from hypernet_jax.networks.unet import UNet
    from hypernet_jax.normalisation import register_normalisation
    from hypernet_jax.photographs.restoring import restore_file
    from hypernet_jax.tasks import TASKS, Protocol, Task, get_task, register_task
    from hypernet_jax.weights import load_weights, save_weights

__all__ = [
    "BLUR_SIGMA",
    "JPEG_QUALITY",
    "NOISE_SIGMA",
    "SCALE_FACTOR",
    "TASKS",
    "Affine",
    "HyperNetwork",
    "Level",
    "LevelAxis",
    "LevelSpace",
    "Mlp",
    "Model",
    "Polynomial",
    "Proportional",
    "Protocol",
    "ResidualNetwork",
    "Restorer",
    "Task",
    "UNet",
    "UserError",
    "__version__",
    "count_parameters",
    "evaluate",
    "get_task",
    "load_weights",
    "make_model",
    "path_matches",
    "register_network",
    "register_normalisation",
    "register_task",
    "restore_file",
    "save_weights",
]

# Where each name is defined: imported when it is first asked for, since JAX takes a while.
_HOMES = {
    "evaluation.measure": ("evaluate",),
    "features": ("Affine", "Mlp", "Polynomial", "Proportional"),
    "hypernet": ("HyperNetwork", "count_parameters", "path_matches"),
    "axes": ("BLUR_SIGMA", "JPEG_QUALITY", "NOISE_SIGMA", "SCALE_FACTOR", "LevelAxis"),
    "levels": ("Level", "LevelSpace"),
    "model": ("Model", "make_model"),
    "inference.restorer": ("Restorer",),
    "networks.residual": ("ResidualNetwork",),
    "networks.unet": ("UNet",),
    "photographs.restoring": ("restore_file",),
    "networks.registry": ("register_network",),
    "normalisation": ("register_normalisation",),
    "tasks": ("TASKS", "Protocol", "Task", "get_task", "register_task"),
    "weights": ("load_weights", "save_weights"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str):
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
