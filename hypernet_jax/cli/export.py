"""`hypernet-jax export`: writes a model that runs without this package, or a plain network."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from hypernet_jax.blind.estimate import estimate_photo, photo_estimator
from hypernet_jax.blind.parts import PartsEstimator
from hypernet_jax.errors import UserError
from hypernet_jax.files import (
    check_output,
    ensure_folder,
    local_path,
    refuse_inputs,
    temporary_folder,
    unwritable,
    write_atomically,
    write_together,
)
from hypernet_jax.hypernet import Theta
from hypernet_jax.interchange.portable import bake, describe, is_plain
from hypernet_jax.levels import AUTO
from hypernet_jax.model import Model, make_model
from hypernet_jax.weights import check_shipped, load_weights_and_config, save_weights

__all__ = ["EXPORT_FORMATS", "export", "onnx_bytes", "stablehlo_bytes"]

EXPORT_FORMATS = ("stablehlo", "onnx", "safetensors", "darktable")


_NEEDS_ONNX = "Exporting to ONNX needs the onnx package: install hypernet-jax[onnx]."


def onnx_bytes(
    model: Model,
    theta: Theta,
    metadata: dict[str, Any],
    *,
    level_map: bool = False,
    estimator: PartsEstimator | None = None,
) -> bytes:
    """The model as an ONNX file.

    With `level_map` it takes a level for each pixel; with an estimator it takes no level.
    """
    try:
        from hypernet_jax.interchange.onnx_estimator import with_estimate
        from hypernet_jax.interchange.onnx_model import export_onnx
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise UserError(_NEEDS_ONNX) from None
    made = export_onnx(model, theta, metadata=metadata, level_map=level_map)
    if estimator is not None:
        made = with_estimate(made, estimator, model.task.space)
    return made.SerializeToString()


def stablehlo_bytes(model: Model, theta: Theta, *, level_map: bool = False) -> bytes:
    """The model as a serialised `jax.export.Exported`; `level_map` as in `onnx_bytes`."""
    from hypernet_jax.interchange.stablehlo import export_stablehlo

    return export_stablehlo(model, theta, level_map=level_map)


def _export_darktable(args: argparse.Namespace) -> int:
    """Writes a folder, complete or not at all."""
    if args.level not in (None, AUTO) or args.level_map:
        raise UserError(
            "darktable sets the level itself; leave --level and --level-map out, or give --level "
            "auto for a model that estimates it."
        )
    if args.task is not None:
        check_shipped(args.task)
    # Without .. at its end, which no folder can be renamed to.
    output = Path(os.path.normpath(local_path(args.output)))
    if args.overwrite:
        raise UserError(
            "--overwrite is not for darktable, because folders are never overwritten; leave it out "
            f"and choose a new name, or remove {output} first."
        )
    if str(args.output) == "-":
        raise UserError("The output - is no name of a folder; give one.")
    if os.path.lexists(output):
        raise UserError(
            f"The output {output} already exists, and folders are never overwritten; choose "
            "another name or remove it."
        )
    model, theta, _ = load_weights_and_config(args.weights or args.task)
    try:
        from hypernet_jax.interchange.darktable import darktable_config, darktable_model
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise UserError(_NEEDS_ONNX) from None
    estimator = None if args.level is None else _estimator(model)
    content = darktable_model(model, theta, estimator=estimator).SerializeToString()
    name = args.task or Path(args.weights).stem
    config = darktable_config(model, name, estimates=estimator is not None)
    ensure_folder(output.parent)
    with temporary_folder(output.parent) as folder:
        whole = folder / "model"
        try:
            whole.mkdir()
            (whole / "model.onnx").write_bytes(content)
            (whole / "config.json").write_text(json.dumps(config, indent=4) + "\n")
            whole.rename(output)
        except OSError as error:
            raise unwritable(output, error.strerror) from None
    print(f"wrote {output} (config.json and model.onnx, {len(content):,} bytes)")
    return 0


def _estimator(model: Model) -> PartsEstimator:
    """The network that estimates the levels of the model's task."""
    if is_plain(model):
        raise UserError(
            "These weights serve only one level, so there is nothing to estimate; leave --level "
            "auto out."
        )
    if model.task.estimate is not estimate_photo:
        raise UserError(
            f"The level of {model.task.name} has no estimator network to export; leave "
            "--level auto out, or give --task photo."
        )
    if model.colours != 3:
        raise UserError("The exported estimator needs colour images; give a colour network.")
    return photo_estimator()


def export(args: argparse.Namespace) -> int:
    """Writes one file, and for StableHLO, which cannot hold metadata, FILE.json as well."""
    if args.format not in EXPORT_FORMATS:
        raise UserError(
            f"Unknown format {args.format!r}; choose one of {', '.join(EXPORT_FORMATS)}."
        )
    if args.format == "darktable":
        return _export_darktable(args)
    if args.level == AUTO and args.format != "onnx":
        raise UserError("--level auto is for the formats onnx and darktable; give a level.")
    if args.level_map and args.format == "safetensors":
        raise UserError("Weights always accept level maps; leave out --level-map.")
    if args.task is not None:
        check_shipped(args.task)
    output = local_path(args.output)
    outputs = [output]
    if args.format == "stablehlo":
        outputs.append(output.with_name(f"{output.name}.json"))
    for path in outputs:
        check_output(path, overwrite=args.overwrite)
    refuse_inputs(outputs, [args.weights])
    model, theta, config = load_weights_and_config(args.weights or args.task)
    estimator = _estimator(model) if args.level == AUTO else None
    if args.level not in (None, AUTO):
        request = model.task.space.request(args.level)
        if request.estimated:
            raise UserError(
                "An exported model estimates all parts of its level (--level auto, for the "
                "formats onnx and darktable) or none; give a number for every part, or --level "
                "auto."
            )
        theta, config = bake(model, theta, config, request.level())
        model = make_model(config)
    level = model.task.space.only
    if args.format == "safetensors":
        save_weights(output, theta, config, overwrite=args.overwrite)
    elif args.format == "onnx":
        metadata = describe(model, level=level, layout="NCHW", level_map=args.level_map)
        if estimator is not None:
            metadata |= {"level": "estimated", "level_is_input": False}
        content = onnx_bytes(model, theta, metadata, level_map=args.level_map, estimator=estimator)
        write_atomically(output, content, overwrite=args.overwrite)
    else:
        content = stablehlo_bytes(model, theta, level_map=args.level_map)
        metadata = describe(model, level=level, layout="NHWC", level_map=args.level_map)
        text = json.dumps(metadata, indent=2) + "\n"
        write_together(dict(zip(outputs, (content, text.encode()), strict=True)), args.overwrite)
    served = "every level, given as an input" if not is_plain(model) else "one plain network"
    if args.level_map:
        served = "a level for each pixel, given as an input"
    if estimator is not None:
        served = "a level that it estimates itself"
    if level is not None:
        served = f"{level.describe()} baked in"
    print(f"wrote {output} ({output.stat().st_size:,} bytes; {model.task.name}, {served})")
    return 0
