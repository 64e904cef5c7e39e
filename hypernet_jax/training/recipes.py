"""The recipes that the configs of all tasks start from.

`configs/*.py` take one of these and set the task's name and levels. Where a value
differs from the published recipe (HyperRes, Aharon and Ben-Artzi, ICASSP 2023),
its comment gives the published one. Sequences are tuples, because lists cannot be
overridden on the command line.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from hypernet_jax.errors import UserError
from hypernet_jax.tasks import get_task

__all__ = ["VARIANTS", "recipe", "task_recipe", "use_task"]


def _base() -> ConfigDict:
    """Our recipe for a GPU or TPU, with the published width and depth."""
    return ConfigDict(
        {
            "task": "",  # a name in hypernet_jax/tasks.py; set by the config file
            "seed": 0,
            # Weights to start from, by name or file; empty: random initialisation. Training starts
            # with exactly their networks, even if they have fewer channels, blocks or powers of
            # the level, or a single level (a plain network: it becomes the base, with zero slopes).
            "initial_weights": "",
            # Parameters to keep fixed: a regular expression on base/PATH and slopes/PATH (of a
            # generated parameter), shared/PATH and features/PATH; "^(base|shared)/" trains only
            # the slopes.
            "frozen": "",
            "steps": 300_000,  # published: 1,000,000
            "loss": "l1",  # l1 (published), l2 or charbonnier
            # Keeps the inputs of activations on both sides of zero: without it most units become
            # negative on all photographs, and a unit of one sign is linear. Published: 0.
            "balance": 0.1,
            # Trained networks, by name or file, whose results are a part of the target: the share,
            # while the rest is the clean crop. Empty: the clean crop alone, as published.
            "distillation": {
                "teachers": (),  # each step draws one
                "share": 0.7,
                "views": True,  # it sees the crops mirrored and turned at random
            },
            "ema_decay": 0.999,  # of the parameter average to evaluate; published: none (0)
            "log_every": 100,
            # Beside metrics.jsonl and TensorBoard: ("mlflow",), or what `register_logger` adds.
            "loggers": (),
            "compute_dtype": "bfloat16",  # parameters and state stay float32; published: float32
            # The backward pass recomputes the activations of one level at a time instead of
            # keeping those of all levels: less memory, more time.
            "remat": False,
            "shard_state": False,  # split the training state over the devices
            # How the levels of a step are computed: unrolled (a network per level; the fastest on
            # CPUs), vmap (a convolution per level) or wide (one convolution with the whole bank).
            "level_form": "unrolled",
            "level_devices": 1,  # number of devices to split the levels over; the rest split crops
            "network": {
                "name": "residual",
                "colours": 3,  # 3 RGB, 1 grey
                "channels": 64,
                "blocks": 16,
                "light_tail": True,  # published: False (two more full-resolution convolutions)
                "residual_output": True,  # published: False
                "init_gain": 1.0,  # published: 0.1
                # relu (published) or leaky_relu: ReLUs that are negative everywhere stop learning,
                # and Muon's large steps drive many of them there.
                "activation": "leaky_relu",
                # Subtracted from images; published: 0. Otherwise the mean that all photographs
                # share dominates every training step.
                "centre": 0.5,
            },
            "features": {
                # affine (published), proportional, polynomial, mlp, constant,
                # independent, interpolated
                "name": "affine",
                "degree": 2,  # polynomial
                "hidden": 16,  # mlp: hidden units
                "outputs": 3,  # mlp: features besides the constant
                "levels": (),  # independent and interpolated: one network at each
            },
            # Regular expression on parameter paths; published: "block_" (the residual blocks)
            "generated": "",
            "levels": {
                # `count` and the fields from `low` to `absent` are for drawn levels. If levels
                # have parts, the fields from `low` to `far` are tuples with a value for each part.
                "count": 4,  # levels per step
                # Each level restores different crops: the same arithmetic for `count` times as
                # many crops. Published: False, all levels restore the same crops.
                "own_crops": True,
                # step: all crops share the levels of a step; crop: each crop has `count` levels of
                # its own; pixel: each pixel has its own (half of the crops mix two in blobs).
                "per": "step",
                # relative: each level's loss is divided by its size, so that a decibel is worth
                # the same at every level; published: equal.
                "weighting": "relative",
                "fixed": (),  # published: four levels, set by the task; empty: drawn afresh
                "low": 0.0,  # range of drawn levels, set by the task
                "high": 0.0,
                "power": 1.0,  # 2: uniform in the square root of the range, so more low levels
                "whole": 0.0,  # share of drawn levels that are rounded to whole numbers
                "absent": 0.0,  # share of drawn parts that are neutral (no such degradation)
                "normalisation": "",  # level -> z, set by the task; published: level / 255
                # Level at which z is 0 and the network equals its base: for a warm start, the
                # level of the plain network. None: where the normalisation is 0.
                "origin": placeholder(float),
                # Level at which z is 1, set by the task. None: where the normalisation is 1.
                "far": placeholder(float),
            },
            "data": {
                "dataset": "",  # a folder made by `hypernet-jax prepare`; empty: a small default
                "crop_size": 96,
                "crops": 16,
                # Share of crops that are grey for a colour network, and degraded as a grey image:
                # without them the network mistakes grey noise for texture. Published: 0.
                "grey": 0.15,
                # Share of crops with changed colours: permuted channels, saturation, white
                # balance, exposure, gamma.
                "recoloured": 0.0,
                # Share of crops that become dark scenes, with 6 % to 60 % of the light.
                "darkened": 0.0,
                # Share of clean crops that are softened, like photographs at a camera's native
                # resolution.
                "softened": 0.0,
                # The largest share of crops from one folder of photographs.
                "largest_share": 1.0,
                "threads": 4,
                "cache_gib": 2.0,  # decoded sub-images that each process keeps in memory
            },
            "optimizer": {
                "name": "muon",  # muon or adam; published: adam
                "learning_rate": 5e-4,  # published: 1e-4
                "schedule": "cosine",  # cosine, halfway or constant; published: halfway
                "warmup_steps": 500,  # at most half of all steps; published: 0
                "final_fraction": 0.01,  # of the learning rate, at the end of a cosine
                "clip_norm": 1.0,  # global gradient norm; published: none (0)
                # With Muon: learning rate of biases, relative to that of kernels. Adam moves a
                # bias by the full rate in every step, Muon each weight by far less; at 1, biases
                # soon outweigh the signals and leave units negative everywhere.
                "bias_rate": 0.1,
                # For Adam; with Muon, for biases only. Muon's own momentum is 0.95.
                "b1": 0.9,
                "b2": 0.999,
            },
            "validation": {
                "every": 2_000,
                "levels": (),  # set by the task
                "images": 8,
                "crop_size": 256,
            },
            "checkpoint": {"every": 2_000, "keep": 3},
        }
    )


def _published() -> ConfigDict:
    """The published recipe, except that its network starts well scaled at every level
    (published: kernels A*z + B that start at A*z)."""
    config = _base()
    config.steps = 1_000_000
    config.balance = 0.0
    config.ema_decay = 0.0
    config.compute_dtype = "float32"
    config.network.light_tail = False
    config.network.residual_output = False
    config.network.init_gain = 0.1
    config.network.activation = "relu"
    config.network.centre = 0.0
    config.generated = "block_"
    config.levels.own_crops = False
    config.levels.weighting = "equal"
    config.data.grey = 0.0
    config.levels.normalisation = "published"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-4
    config.optimizer.schedule = "halfway"
    config.optimizer.warmup_steps = 0
    config.optimizer.clip_norm = 0.0
    return config


def _compact() -> ConfigDict:
    """Our recipe for two CPU cores: about 0.4 s per step."""
    config = _base()
    config.steps = 6_000  # published: 1,000,000
    config.compute_dtype = "float32"  # CPUs gain nothing from bfloat16
    config.network.channels = 32  # published: 64
    config.network.blocks = 8  # published: 16
    config.data.crop_size = 48  # published: 96
    config.data.crops = 8  # published: 16
    config.data.threads = 2
    config.optimizer.learning_rate = 1.5e-3  # published: 1e-4
    config.optimizer.warmup_steps = 200  # published: 0
    config.validation.every = 1_000
    config.validation.crop_size = 128
    config.checkpoint.every = 500
    return config


def _unet() -> ConfigDict:
    """Our recipe for two CPU cores, with a three-scale network that needs less arithmetic."""
    config = _compact()
    config.network = ConfigDict(
        {
            "name": "unet",
            "colours": 3,
            "channels": (64, 96, 128),  # at a half, a quarter and an eighth of the resolution
            "blocks": (2, 1, 1),  # at each scale, on the way down and again on the way up
            "residual_output": True,
            "init_gain": 1.0,
            "activation": "leaky_relu",
            "centre": 0.5,
        }
    )
    config.data.crop_size = 64
    config.data.crops = 4
    return config


_RECIPES = {"base": _base, "compact": _compact, "published": _published, "unet": _unet}
VARIANTS = tuple(_RECIPES)


def recipe(variant: str) -> ConfigDict:
    """Returns the recipe called `variant`, one of `VARIANTS`; base for ""."""
    variant = variant or "base"
    if variant not in _RECIPES:
        raise UserError(
            f"Unknown variant {variant!r}; choose one of {', '.join(VARIANTS)}, or one of them "
            "with _grey after it."
        )
    return _RECIPES[variant]()


def _ends(task: str, drawn: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The lowest and the highest drawn value of each part of the level."""
    space = get_task(task).space
    if isinstance(drawn, Mapping):
        if set(drawn) != set(space.names) or any(np.size(ends) != 2 for ends in drawn.values()):
            raise UserError(
                f"drawn is {drawn}; give a pair of numbers for each of {', '.join(space.names)}."
            )
        drawn = [{name: ends[index] for name, ends in drawn.items()} for index in (0, 1)]
    if not isinstance(drawn, (Sequence, np.ndarray)) or len(drawn) != 2 or isinstance(drawn, str):
        raise UserError(f"drawn is {drawn!r}; give the lowest level and the highest.")
    low, high = (space.parse(end).values for end in drawn)
    return low, high


def use_task(config: ConfigDict, task: str, drawn: Any) -> None:
    """Sets the task of a recipe, with the range of drawn levels and the axes' normalisation."""
    config.task = task
    axes = get_task(task).space.axes
    low, high = _ends(task, drawn)
    values: dict[str, Any] = {
        "low": low,
        "high": high,
        "normalisation": tuple(axis.normalisation for axis in axes),
        "origin": tuple(axis.origin for axis in axes),
        "far": tuple(axis.far for axis in axes),
    }
    if len(axes) == 1:
        values = {name: own[0] for name, own in values.items()}
        config.levels.update(values)
    else:
        for name in ("power", "whole", "absent"):
            values[name] = (config.levels[name],) * len(axes)
        # New fields, so that they have the type of tuples on the command line too.
        for name in values:
            del config.levels[name]
        config.levels.update(values)


def task_recipe(
    variant: str,
    task: str,
    *,
    drawn: Any,
    published: tuple[Any, ...],
    validated: tuple[Any, ...],
    compact_steps: int,
) -> ConfigDict:
    """A recipe for a task, as `configs/*.py` return it.

    Args:
      variant: one of `VARIANTS`, or "" for base; append "_grey" for a one-channel network.
      task: name of the task.
      drawn: lowest and highest drawn level, not used by the published recipe; if levels have
        parts, {"noise": (0, 50), "jpeg": (10, 90)}, or two levels as `LevelSpace.parse` takes
        them: the lows, then the highs.
      published: the fixed levels of the published recipe.
      validated: levels for validation.
      compact_steps: steps of the compact recipes.

    The normalisation is the task's own, except in the published recipe.

    Raises:
      UserError: for an unknown variant or task, or levels that are none of the task.
    """
    for name, levels in (("published", published), ("validated", validated)):
        if not isinstance(levels, tuple):
            raise UserError(f"{name} is {levels!r}; give a tuple of levels.")
    variant, grey = variant.removesuffix("_grey"), variant.endswith("_grey")
    config = recipe(variant)
    if variant == "published":
        config.task = task
        config.levels.fixed = published
        # Not used, because the levels are fixed, but checked.
        with config.ignore_type():  # tuples, if levels have parts
            ends = _ends(task, drawn)
            config.levels.low, config.levels.high = (
                end[0] if len(end) == 1 else end for end in ends
            )
    else:
        use_task(config, task, drawn)
    config.network.colours = 1 if grey else 3
    config.validation.levels = validated
    if variant in ("compact", "unet"):
        config.steps = compact_steps  # published: 1,000,000
    return config
