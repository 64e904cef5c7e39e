"""One hypernetwork, from a degradation level to the parameters of a restoration network.

    level -> features -> kernel bank -> params -> network.apply -> restored image

`Restorer` restores images with trained weights; `HyperNetwork` makes any Flax
network adaptive; `Model` joins a network, a hypernetwork and a task.
"""

from hypernet_jax.errors import UserError
from hypernet_jax.features import Affine, Mlp, Polynomial, Proportional
from hypernet_jax.hypernet import HyperNetwork, count_parameters, path_matches
from hypernet_jax.levels import JPEG_QUALITY, NOISE_SIGMA, SCALE_FACTOR, LevelScale
from hypernet_jax.model import Model, make_model
from hypernet_jax.restoration.restorer import Restorer
from hypernet_jax.tasks import TASKS, Task, get_task
from hypernet_jax.version import __version__
from hypernet_jax.weights import load_weights, save_weights

__all__ = [
    "JPEG_QUALITY",
    "NOISE_SIGMA",
    "SCALE_FACTOR",
    "TASKS",
    "Affine",
    "HyperNetwork",
    "LevelScale",
    "Mlp",
    "Model",
    "Polynomial",
    "Proportional",
    "Restorer",
    "Task",
    "UserError",
    "__version__",
    "count_parameters",
    "get_task",
    "load_weights",
    "make_model",
    "path_matches",
    "save_weights",
]
