"""`hypernet-jax info`: prints what a config or weights define and cost, as JSON."""

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

from hypernet_jax.errors import UserError, missing_extra
from hypernet_jax.files import local_path
from hypernet_jax.model import Model, make_model, model_config
from hypernet_jax.networks import network_options
from hypernet_jax.weights import load_weights_and_config

__all__ = ["info", "load_config"]


def load_config(name: str):
    """Runs get_config(variant) of "FILE.py:variant"."""
    local_path(name)
    file, _, variant = name.partition(":")
    if not Path(file).is_file():
        raise UserError(f"There is no config file {file}; check the path.")
    spec = importlib.util.spec_from_file_location("config", file)
    if spec is None or spec.loader is None:
        raise UserError(f"The config {file} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.get_config(variant) if variant else module.get_config()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and (missing := missing_extra(error)):
            raise missing from None
        raise UserError(f"The config {file} cannot be run ({error}).") from None


def _model(args: argparse.Namespace, config: Any) -> tuple[Model, dict[str, Any]]:
    """The model, and the dict that describes it."""
    if config is None:
        model, _, described = load_weights_and_config(args.weights)
        return model, described
    # It imports packages of the extra `train`, as the config itself does.
    from hypernet_jax.training.config import check_config

    try:
        check_config(config)
        described = model_config(config)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"The config {args.config} does not define a model ({error}).") from None
    return make_model(described), described


def _trained(described: dict[str, Any]) -> dict[str, Any]:
    """The range of each part of the level that was trained, of weights that record it."""
    records = described.get("trained_levels", ())
    ranges = {each["name"]: [each["low"], each["high"]] for each in records}
    return {"trained_levels": ranges} if ranges else {}


def info(args: argparse.Namespace) -> int:
    """Prints one JSON object."""
    if args.step and args.config is None:
        raise UserError("--step is for a training config; give --config.")
    config = None if args.config is None else load_config(args.config)
    model, described = _model(args, config)
    content = {
        "source": args.config or args.weights,
        "task": model.task.name,
        "level": model.task.space.describe(),
        **_trained(described),
        "network": network_options(model.network),
        **model.parameter_counts(),
        "flops_per_pixel": round(model.flops_per_pixel()),
    }
    if args.step:
        content["training_step"] = _step(config)
    print(json.dumps(content, indent=2))
    return 0


def _step(config) -> dict[str, Any]:
    # Imports packages of the extra `train`, as the config itself does.
    from hypernet_jax.training.planning import cost_of_config

    cost = cost_of_config(config)
    return {"flops": round(cost.flops), "bytes_per_device": cost.bytes_per_device}
