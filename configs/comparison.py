"""Baselines for one network for all levels, at a common training budget.

    python train.py --config=configs/comparison.py:denoise-dedicated --workdir=runs/dedicated

The variant is TASK-METHOD. Tasks: those of `TASKS` below. Methods:

- hypernetwork: ours, with levels drawn from the whole range at each step
- whole: as hypernetwork, but seven of ten drawn levels are rounded to whole numbers
- equal: as hypernetwork, but with equal weights of levels in the loss, as in all that follow
  except continued
- polynomial: kernels quadratic in the level instead of affine
- published: the fixed published levels instead of drawn ones
- dedicated: one plain network per level, trained side by side
- level_plane: a plain network with the level as an extra input plane, as in FFDNet
- ends: two plain networks at the ends, for deep network interpolation (DNI); start it from
  one plain network (--config.initial_weights), since only related networks interpolate
- specialised: one plain network per level, starting from the one that the shipped weights generate
- continued: the shipped weights, trained further as one hypernetwork, to compare with specialised

Budget: 600 steps, with 6 crops of 32x32 per level in each step, different crops for each level;
every method sees as many crops as there are dedicated levels (published: four of its levels,
ends: two). The network is that of the compact recipe, or that of the shipped weights if they
are trained further. One to six minutes each on two CPU cores.
"""

from typing import NamedTuple

from ml_collections import ConfigDict

from hypernet_jax.errors import UserError
from hypernet_jax.training.recipes import recipe, use_task
from hypernet_jax.weights import load_weights_and_config


class Compared(NamedTuple):
    """The levels of a task's comparison.

    Attributes:
      levels: levels of the dedicated networks, and of validation.
      ends: levels of the two networks for interpolation.
      published: the fixed levels of the published recipe.
      drawn: the range of drawn levels.
    """

    levels: tuple[float, ...]
    ends: tuple[float, float]
    published: tuple[float, ...]
    drawn: tuple[float, float]


TASKS = {
    "denoise": Compared(
        levels=(5.0, 15.0, 25.0, 50.0, 75.0, 90.0),
        ends=(20.0, 80.0),
        published=(15.0, 35.0, 55.0, 75.0),
        drawn=(0.0, 100.0),
    ),
    "dejpeg": Compared(
        levels=(10.0, 30.0, 60.0),
        ends=(10.0, 60.0),
        published=(10.0, 30.0, 50.0, 80.0),
        drawn=(5.0, 95.0),
    ),
    "sr": Compared(
        levels=(2.0, 3.0, 4.0),
        ends=(2.0, 4.0),
        published=(2.0, 3.0, 4.0, 5.0),
        drawn=(1.5, 5.0),
    ),
}
METHODS = (
    "hypernetwork",
    "whole",
    "equal",
    "polynomial",
    "published",
    "dedicated",
    "level_plane",
    "ends",
    "specialised",
    "continued",
)


def get_config(variant="denoise-hypernetwork"):
    """The training config of TASK-METHOD."""
    task, _, method = variant.partition("-")
    if task not in TASKS or method not in METHODS:
        raise UserError(
            f"Unknown variant {variant!r}; choose TASK-METHOD, a task of {', '.join(TASKS)} "
            f"and a method of {', '.join(METHODS)}."
        )
    compared = TASKS[task]
    config = recipe("compact")
    use_task(config, task, compared.drawn)
    config.steps = 600
    config.data.crop_size, config.data.crops = 32, 6
    config.data.grey = 0.0  # evaluated on colour images
    config.optimizer.warmup_steps = 100
    config.levels.count = len(compared.levels)
    config.validation.levels = compared.levels
    if method in ("specialised", "continued"):
        config.initial_weights = task
        shipped = load_weights_and_config(task)[2]
        # Weights that do not name these fields were trained with ReLUs on uncentred images.
        network = {"activation": "relu", "centre": 0.0} | shipped["network"]
        config.network = ConfigDict(
            {name: tuple(v) if isinstance(v, list) else v for name, v in network.items()}
        )
        config.generated = shipped["generated"]
        config.features.update(shipped["features"])
        config.levels.normalisation = shipped["normalisation"]
        config.levels.origin, config.levels.far = shipped.get("origin"), shipped.get("far")
        config.optimizer.learning_rate = 5e-4  # lower, because these weights are already trained
    if method not in ("hypernetwork", "whole", "continued"):
        config.levels.weighting = "equal"
    if method == "whole":
        config.levels.whole = 0.7
    elif method == "polynomial":
        config.features.name = "polynomial"
    elif method == "published":
        config.levels.fixed = compared.published
    elif method in ("dedicated", "specialised", "ends"):
        levels = compared.ends if method == "ends" else compared.levels
        config.features.name = "independent"
        config.features.levels = config.levels.fixed = levels
    elif method == "level_plane":
        config.network.name = "level_plane"
        config.generated = "^level$"
        config.features.name = "proportional"
    return config
