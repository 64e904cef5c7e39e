"""Validates a training config, so that mistakes are reported before the first step."""

import numbers
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from hypernet_jax.data.levels import PER
from hypernet_jax.errors import UserError, prefixed
from hypernet_jax.levels import LevelSpace
from hypernet_jax.model import LEVEL_FORMS, make_model, model_config
from hypernet_jax.tasks import get_task
from hypernet_jax.training.recipes import recipe
from hypernet_jax.training.trial import check_degradation

__all__ = ["check_config", "config_difference", "flatten"]

# Fields that may change when a run is resumed: they do not affect the result, except for
# the order of summation.
_FREE_FIELDS = (
    "checkpoint",
    "data.cache_gib",
    "data.threads",
    "level_devices",
    "level_form",
    "log_every",
    "loggers",
    "remat",
    "shard_state",
    "validation",
)


# For larger z, updates of the slopes far outweigh those of the base.
_LARGEST_Z = 4.0

_BELOW_ONE = 1.0 - 1e-9
# Inclusive ranges; values must also be finite.
_RANGES = {
    "seed": (0, 2**31 - 1),
    "levels.power": (0.1, 10.0),
    "levels.whole": (0.0, 1.0),
    "levels.absent": (0.0, 1.0),
    "data.grey": (0.0, 1.0),
    "data.recoloured": (0.0, 1.0),
    "data.darkened": (0.0, 1.0),
    "data.softened": (0.0, 1.0),
    "data.largest_share": (1e-3, 1.0),
    "data.cache_gib": (0.0, 2.0**20),
    "balance": (0.0, 10.0),
    "distillation.share": (0.0, 1.0),
    "ema_decay": (0.0, _BELOW_ONE),
    "network.channels": (1, 4096),
    "network.blocks": (0, 1024),
    "network.centre": (0.0, 1.0),
    "network.init_gain": (1e-6, 1e3),
    "optimizer.learning_rate": (1e-12, 1e32),
    "optimizer.warmup_steps": (0, 10**12),
    "optimizer.final_fraction": (0.0, 1.0),
    "optimizer.clip_norm": (0.0, 1e30),
    "optimizer.bias_rate": (0.0, 1e3),
    "optimizer.b1": (0.0, _BELOW_ONE),
    "optimizer.b2": (0.0, _BELOW_ONE),
}
# Fields that must be whole; the type of a tuple's items is not fixed by its default.
_WHOLE = {"network.channels", "network.blocks"}


def _check_fields(config) -> None:
    given = flatten(config.to_dict())
    known = flatten(recipe("base").to_dict())
    groups = {name.rpartition(".")[0] for name in known} - {"network"}
    for name in known:
        # The fields of config.network depend on the network.
        if name not in given and not name.startswith("network."):
            raise UserError(f"The config has no field {name}; start from one of configs/.")
    for name in given:
        # Groups of a user's own, for a logger perhaps, are none of ours.
        if name not in known and name.rpartition(".")[0] in groups:
            raise UserError(f"The config has a field {name}, which means nothing; check its name.")
    for name, usual in known.items():
        if usual is not None and name in given and given[name] is None:
            raise UserError(f"config.{name} is None; give a value, such as {usual!r}.")
    for name, (low, high) in _RANGES.items():
        value = given.get(name, low)
        each = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(one, numbers.Real) for one in each):
            raise UserError(f"config.{name} is {value}, which is no number; give numbers.")
        if name in _WHOLE and not all(isinstance(one, numbers.Integral) for one in each):
            raise UserError(f"config.{name} is {value}; give whole numbers.")
        if not all(low <= one <= high for one in each):  # also catches NaN
            end = f"lie in {low:g} to {high:g}"
            if high == _BELOW_ONE:
                end = f"be at least {low:g} and below 1"
            raise UserError(f"config.{name} is {value}; it must {end}.")
    if given.get("network.colours", 3) not in (1, 3):
        raise UserError(f"config.network.colours is {given['network.colours']}; choose 3 or 1.")


def _check_axes(levels, axes: int) -> None:
    """Checks that options for drawn levels are numbers, or tuples with one for each part."""
    for name in ("low", "high", "power", "whole", "absent", "normalisation", "origin", "far"):
        value = levels[name]
        if isinstance(value, tuple) and len(value) != axes:
            parts = "parts" if axes > 1 else "part"
            raise UserError(
                f"config.levels.{name} is {value}; levels of this task have {axes} {parts}: give "
                "a value for each."
            )


def _check_normalisation(space: LevelSpace) -> None:
    """Checks that z is finite and moderate; otherwise any normalisation fits any task."""
    for axis in space.axes:
        z = np.abs(np.asarray(axis.normalise(np.linspace(axis.low, axis.high, 101))))
        if not z.max() <= _LARGEST_Z:  # also catches NaN
            reached = f"reaches {z.max():.3g}" if np.isfinite(z).all() else "is not finite"
            raise UserError(
                f"With config.levels.normalisation={axis.normalisation} and config.levels.far="
                f"{axis.far}, z {reached} for some {axis.describe()}; choose another, "
                "or set config.levels.far, the level where z is 1, so that |z| is at most "
                f"{_LARGEST_Z:g}."
            )


def check_config(config) -> None:
    """Raises `UserError` if a value is not valid for training, or the degradation does not work."""
    if not isinstance(config, ConfigDict):
        raise UserError(f"The config is a {type(config).__name__}; give a ConfigDict.")
    _check_fields(config)
    task = get_task(config.task)
    levels, space = config.levels, task.space
    _check_axes(levels, len(space))
    if not config.validation.levels:
        raise UserError("config.validation.levels is empty; give at least one level.")
    for name, given in {
        "levels.fixed": levels.fixed,
        "features.levels": config.features.levels,
        "levels.low": (levels.low,),
        "levels.high": (levels.high,),
        "validation.levels": config.validation.levels,
    }.items():
        for level in given:
            with prefixed(f"config.{name}"):
                space.parse(level)
    for name in ("origin", "far"):
        ends = levels[name] if isinstance(levels[name], tuple) else (levels[name],) * len(space)
        for axis, end in zip(space.axes, ends, strict=True):
            with prefixed(f"config.levels.{name}"):
                if end is not None:
                    axis.valid(end)
    _check_normalisation(make_model(model_config(config)).task.space)
    if np.any(np.greater(levels.low, levels.high)):
        raise UserError("config.levels.low must not be above config.levels.high.")
    if levels.per not in PER:
        raise UserError(f"config.levels.per is {levels.per!r}; choose one of {', '.join(PER)}.")
    if config.compute_dtype not in ("float32", "bfloat16"):
        raise UserError(
            f"config.compute_dtype is {config.compute_dtype!r}; choose float32 or bfloat16."
        )
    if config.level_form not in LEVEL_FORMS:
        raise UserError(
            f"config.level_form is {config.level_form!r}; choose one of {', '.join(LEVEL_FORMS)}."
        )
    if config.remat and (levels.per != "step" or config.level_form != "unrolled"):
        raise UserError(
            "config.remat recomputes the networks of a step one by one; leave config.level_form "
            "at unrolled and config.levels.per at step."
        )
    if levels.per != "step" and levels.fixed:
        raise UserError(
            f"config.levels.per={levels.per} draws levels; leave config.levels.fixed empty."
        )
    if levels.per == "pixel" and not task.degradation.traceable:
        raise UserError(
            f"config.levels.per=pixel needs degradations that run on the device, but one of the "
            f"task {config.task} does not; choose crop."
        )
    positive = {
        "steps": config.steps,
        "log_every": config.log_every,
        "levels.count": levels.count,
        "data.crops": config.data.crops,
        "data.crop_size": config.data.crop_size,
        "data.threads": config.data.threads,
        "validation.every": config.validation.every,
        "validation.images": config.validation.images,
        "validation.crop_size": config.validation.crop_size,
        "checkpoint.every": config.checkpoint.every,
        "checkpoint.keep": config.checkpoint.keep,
    }
    for name, value in positive.items():
        if value < 1:
            raise UserError(f"config.{name} is {value}; it must be at least 1.")
    check_degradation(task, side=config.data.crop_size, colours=config.network.colours)


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields of a nested dict by their dotted names, each after `prefix`."""
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def config_difference(saved: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """Differences between two configs that affect the result, as short sentences."""
    old, new = flatten(saved), flatten(given)
    return [
        f"config.{name} was {old.get(name)!r} and is now {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
        and not any(name == free or name.startswith(f"{free}.") for free in _FREE_FIELDS)
    ]
