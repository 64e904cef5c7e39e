"""The three recipes that every task's config starts from.

`configs/*.py` take one of these and give what belongs to the task: its name and
levels. Where a value departs from the published recipe (HyperRes,
Aharon and Ben-Artzi, ICASSP 2023) its comment names the published one.
Sequences are tuples, since lists cannot be overridden on the command line.
"""

from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from hypernet_jax.errors import UserError
from hypernet_jax.tasks import get_task

__all__ = ["VARIANTS", "recipe", "task_recipe", "use_task"]


def _base() -> ConfigDict:
    """Ours: the published width and depth, trained on a GPU or TPU."""
    return ConfigDict(
        {
            "task": "",  # a name of hypernet_jax/tasks.py; set by the config file
            "seed": 0,
            # Weights to go on from, by name or file; empty: start afresh. At first the networks
            # are those of the weights, even if these have fewer channels, blocks or powers of the
            # level, or one level alone (a plain network: the base, with slopes of zero).
            "initial_weights": "",
            # What stays as it is: a regular expression on base/PATH, slopes/PATH (of a generated
            # parameter), shared/PATH and features/PATH; "^(base|shared)/" trains slopes only.
            "frozen": "",
            "steps": 300_000,  # published: 1,000,000
            "loss": "l1",  # l1 (published), l2 or charbonnier
            "ema_decay": 0.999,  # parameter average that is evaluated; published: none (0)
            "log_every": 100,
            "compute_dtype": "bfloat16",  # parameters and state stay float32; published: float32
            # The backward pass recomputes the activations of one level at a time, instead of
            # keeping those of all: less memory, more time.
            "remat": False,
            "shard_state": False,  # split optimizer state and average over the devices
            # how the levels of a step are computed: unrolled (a network per level; the fastest on
            # CPUs), vmap (a convolution per level) or wide (one convolution with the whole bank)
            "level_form": "unrolled",
            "level_devices": 1,  # devices that the levels are split over; the rest split crops
            "network": {
                "name": "residual",
                "colours": 3,  # 3 RGB, 1 grey
                "channels": 64,
                "blocks": 16,
                "light_tail": True,  # published: False (two more full-resolution convolutions)
                "residual_output": True,  # published: False
                "init_gain": 1.0,  # published: 0.1
                # relu (published) or leaky_relu: ReLUs that are negative everywhere learn no more,
                # and Muon's large steps drive many of them there.
                "activation": "leaky_relu",
                # What images are counted from; published: 0. Else the mean that all photographs
                # share fills every step of training.
                "centre": 0.5,
            },
            "features": {
                # affine (published), proportional, polynomial, mlp, constant,
                # independent, interpolated
                "name": "affine",
                "degree": 2,  # of polynomial
                "hidden": 16,  # units of mlp
                "outputs": 3,  # features of mlp beside the constant
                "levels": (),  # of independent and interpolated: one network at each
            },
            # Regular expression on parameter paths; published: "block_" (the residual blocks)
            "generated": "",
            "levels": {
                # The first field and those from low to absent are for levels that are drawn. Where
                # levels have parts, those from low to far are tuples, a value for each part.
                "count": 4,  # networks per step
                # each level restores crops of its own: the same arithmetic for `count` times as
                # many crops; published: False, all restore the same ones
                "own_crops": True,
                # what has levels of its own: step, crop (count times crops levels per step), or
                # pixel (half of the crops have blobs of two levels)
                "per": "step",
                # relative: each level's loss counts in proportion to its size, so that a decibel is
                # worth the same at every level; published: equal
                "weighting": "relative",
                "fixed": (),  # published: four levels, set by the task; empty: drawn afresh
                "low": 0.0,  # range of drawn levels, set by the task
                "high": 0.0,
                "power": 1.0,  # 2: drawn evenly in the square root of the range, more low levels
                "whole": 0.0,  # share of drawn levels that are rounded to whole numbers
                "absent": 0.0,  # share of drawn parts that are neutral: not degraded so
                "normalisation": "",  # level -> z, set by the task; published: level / 255
                # Level at which z is 0 and the network is its base alone: for a warm start the
                # one that the plain network was trained at. None: where the normalisation is 0.
                "origin": placeholder(float),
                # Level at which z is 1, set by the task. None: where the normalisation is 1.
                "far": placeholder(float),
            },
            "data": {
                "dataset": "",  # a folder made by `hypernet-jax prepare`; empty: a small default
                "crop_size": 96,
                "crops": 16,
                # Share of the crops that a colour network sees in grey, degraded as a grey image:
                # without it the network takes grey noise for texture. Published: 0.
                "grey": 0.15,
                # Share of the crops that get other colours: permuted channels, saturation, white
                # balance, exposure, gamma.
                "recoloured": 0.0,
                # Share of the crops that are as soft as photographs are at a camera's own
                # resolution, and are to stay so.
                "softened": 0.0,
                # No folder of the photographs gives more than this share of the crops.
                "largest_share": 1.0,
                "threads": 4,
                "cache_gib": 2.0,  # of decoded sub-images that each process keeps in memory
            },
            "optimizer": {
                "name": "muon",  # muon or adam; published: adam
                "learning_rate": 5e-4,  # published: 1e-4
                "schedule": "cosine",  # cosine, halfway or constant; published: halfway
                "warmup_steps": 500,  # at most half of all; published: 0
                "final_fraction": 0.01,  # of the learning rate, at the end of a cosine
                "clip_norm": 1.0,  # global gradient norm; published: none (0)
                # Of Muon: the share of the learning rate that biases have. Adam moves them by the
                # whole rate in every step, Muon each weight by far less; with a share of 1 biases
                # soon outweigh the signals and leave units negative everywhere.
                "bias_rate": 0.1,
                # Of Adam; of what Muon leaves to it: biases. Muon's own momentum is 0.95.
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
    """The published recipe. It departs only in that its network starts well scaled at every
    level (published: kernels A*z + B that start at A*z)."""
    config = _base()
    config.steps = 1_000_000
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
    """Ours for two CPU cores: about 0.4 s per step."""
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
    """Ours for two CPU cores, with a network over three scales that needs less arithmetic."""
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
        raise UserError(f"Unknown variant {variant!r}; choose one of {', '.join(VARIANTS)}.")
    return _RECIPES[variant]()


def use_task(config: ConfigDict, task: str, drawn: tuple[Any, Any]) -> None:
    """Sets the task of a recipe, the range of its drawn levels, and how it counts them."""
    config.task = task
    axes = get_task(task).space.axes
    values = {
        "low": drawn[0],
        "high": drawn[1],
        "normalisation": tuple(axis.normalisation for axis in axes),
        "far": tuple(axis.far for axis in axes),
    }
    if len(axes) == 1:
        values |= {name: values[name][0] for name in ("normalisation", "far")}
        config.levels.update(values)
    else:
        for name in ("power", "whole", "absent"):
            values[name] = (config.levels[name],) * len(axes)
        values["origin"] = (None,) * len(axes)
        with config.ignore_type():
            config.levels.update(values)


def task_recipe(
    variant: str,
    task: str,
    *,
    drawn: tuple[Any, Any],
    published: tuple[Any, ...],
    validated: tuple[Any, ...],
    compact_steps: int,
) -> ConfigDict:
    """A recipe with what belongs to a task: what `configs/*.py` return.

    Args:
      variant: of `VARIANTS`, "" for base; "_grey" appended for a network of one channel.
      task: its name.
      drawn: the range that levels are drawn from, but for the published recipe; tuples of one
        number per part where levels have parts.
      published: the fixed levels of the published recipe.
      validated: levels of validation.
      compact_steps: steps of the compact recipe.

    Levels are normalised in the task's own way, but for the published recipe.
    """
    variant, grey = variant.removesuffix("_grey"), variant.endswith("_grey")
    config = recipe(variant)
    if variant == "published":
        config.task = task
        config.levels.fixed = published
        # Not used, since the levels are fixed, but checked.
        with config.ignore_type():  # tuples, where levels have parts
            config.levels.low, config.levels.high = drawn
    else:
        use_task(config, task, drawn)
    config.network.colours = 1 if grey else 3
    config.validation.levels = validated
    if variant in ("compact", "unet"):
        config.steps = compact_steps  # published: 1,000,000
    return config
