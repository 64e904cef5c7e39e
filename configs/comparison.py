"""What one network for all levels is measured against, at one common budget.

    python train.py --config=configs/comparison.py:denoise-dedicated --workdir=runs/dedicated

The variant is TASK-METHOD. Tasks: denoise, dejpeg, sr. Methods:

- hypernetwork: ours, levels drawn from the whole range at each step
- polynomial: the same with kernels quadratic in the level instead of affine
- published: the published levels, fixed, instead of drawn ones
- dedicated: one plain network per level of `LEVELS`, trained side by side
- level_plane: a plain network told the level by an extra input plane, as FFDNet is
- ends: two plain networks at `ENDS`, for deep network interpolation (DNI); start it from
  one plain network (--config.initial_weights), since only related networks interpolate

Budget: the network of the compact recipe, 600 steps, in each step 6 crops of 32x32 per
level, each level its own; every method sees as many crops as there are dedicated levels
(published: four of its levels, ends: two). Two to six minutes each on two CPU cores.
"""

from hypernet_jax.errors import UserError
from hypernet_jax.training.recipes import recipe

LEVELS = {
    "denoise": (5.0, 15.0, 25.0, 50.0, 75.0, 90.0),
    "dejpeg": (10.0, 30.0, 60.0),
    "sr": (2.0, 3.0, 4.0),
}
ENDS = {"denoise": (20.0, 80.0), "dejpeg": (10.0, 60.0), "sr": (2.0, 4.0)}
PUBLISHED = {
    "denoise": (15.0, 35.0, 55.0, 75.0),
    "dejpeg": (10.0, 30.0, 50.0, 80.0),
    "sr": (2.0, 3.0, 4.0, 5.0),
}
# Range that levels are drawn from, and level -> z.
RANGES = {
    "denoise": (0.0, 100.0, "per_hundred"),
    "dejpeg": (5.0, 95.0, "jpeg_error"),
    "sr": (1.5, 5.0, "scale_loss"),
}
METHODS = ("hypernetwork", "polynomial", "published", "dedicated", "level_plane", "ends")


def get_config(variant="denoise-hypernetwork"):
    """The training config of TASK-METHOD."""
    task, _, method = variant.partition("-")
    if task not in LEVELS or method not in METHODS:
        raise UserError(
            f"Unknown variant {variant!r}; choose TASK-METHOD, a task of {', '.join(LEVELS)} "
            f"and a method of {', '.join(METHODS)}."
        )
    config = recipe("compact")
    config.task = task
    config.steps = 600
    config.data.crop_size, config.data.crops = 32, 6
    config.optimizer.warmup_steps = 100
    config.levels.low, config.levels.high, config.levels.normalisation = RANGES[task]
    config.levels.count = len(LEVELS[task])
    config.validation.levels = LEVELS[task]
    if method == "polynomial":
        config.features.name = "polynomial"
    elif method == "published":
        config.levels.fixed = PUBLISHED[task]
    elif method in ("dedicated", "ends"):
        levels = LEVELS[task] if method == "dedicated" else ENDS[task]
        config.features.name = "independent"
        config.features.levels = config.levels.fixed = levels
    elif method == "level_plane":
        config.network.name = "level_plane"
        config.generated = "^level$"
        config.features.name = "proportional"
    return config
