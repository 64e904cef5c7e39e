"""Checks on a training config: mistakes are told before the first step."""

from typing import Any

from hypernet_jax.errors import UserError
from hypernet_jax.tasks import get_task

__all__ = ["check_config", "config_difference"]

# Fields that may change between a run and its continuation: they do not touch
# the numbers that are trained, but for the order of sums.
_FREE_FIELDS = ("checkpoint", "data.threads", "level_devices", "log_every", "remat", "validation")


def check_config(config) -> None:
    """Raises `UserError` where a value cannot be trained with."""
    scale = get_task(config.task).scale
    levels = config.levels
    for level in (*levels.fixed, levels.low, levels.high, *config.validation.levels):
        scale.check(level)
    if levels.low > levels.high:
        raise UserError("config.levels.low must not be above config.levels.high.")
    if config.compute_dtype not in ("float32", "bfloat16"):
        raise UserError(
            f"config.compute_dtype is {config.compute_dtype!r}; choose float32 or bfloat16."
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
        "checkpoint.every": config.checkpoint.every,
        "checkpoint.keep": config.checkpoint.keep,
    }
    for name, value in positive.items():
        if value < 1:
            raise UserError(f"config.{name} is {value}; it must be at least 1.")


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def config_difference(saved: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """Fields in which two configs differ and that matter to the result, as short sentences."""
    old, new = _flatten(saved), _flatten(given)
    return [
        f"config.{name} was {old.get(name)!r} and is now {new.get(name)!r}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
        and not any(name == free or name.startswith(f"{free}.") for free in _FREE_FIELDS)
    ]
