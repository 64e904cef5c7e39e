"""`hypernet-jax export`: a model that runs without this package, or a plain network."""

import argparse
import json
from typing import Any

from hypernet_jax.errors import UserError
from hypernet_jax.files import check_output, local_path, write_atomically
from hypernet_jax.hypernet import Theta
from hypernet_jax.interchange.portable import bake, describe, is_plain
from hypernet_jax.model import Model, make_model
from hypernet_jax.tasks import get_task
from hypernet_jax.weights import load_weights_and_config, save_weights

__all__ = ["export", "onnx_bytes", "stablehlo_bytes"]

_FORMATS = ("stablehlo", "onnx", "safetensors")


def onnx_bytes(
    model: Model, theta: Theta, metadata: dict[str, Any], *, level_map: bool = False
) -> bytes:
    """The model as an ONNX file; with `level_map` it takes a level for each pixel."""
    try:
        from hypernet_jax.interchange.onnx_model import export_onnx
    except ModuleNotFoundError as error:
        if error.name != "onnx":
            raise
        raise UserError(
            "Exporting to ONNX needs the onnx package: install hypernet-jax[onnx]."
        ) from None
    made = export_onnx(model, theta, metadata=metadata, level_map=level_map)
    return made.SerializeToString()


def stablehlo_bytes(model: Model, theta: Theta, *, level_map: bool = False) -> bytes:
    """The model as a serialised `jax.export.Exported`; `level_map` as of `onnx_bytes`."""
    from hypernet_jax.interchange.stablehlo import export_stablehlo

    return export_stablehlo(model, theta, level_map=level_map)


def export(args: argparse.Namespace) -> int:
    """Writes one file; for StableHLO, which has no room for a description, FILE.json as well."""
    if args.format not in _FORMATS:
        raise UserError(f"Unknown format {args.format!r}; choose one of {', '.join(_FORMATS)}.")
    if args.level_map and args.format == "safetensors":
        raise UserError("Weights serve level maps as they are; leave out --level-map.")
    if args.task is not None:
        get_task(args.task)
    output = local_path(args.output)
    outputs = [output]
    if args.format == "stablehlo":
        outputs.append(output.with_name(f"{output.name}.json"))
    for path in outputs:
        check_output(path, overwrite=args.overwrite)
    model, theta, config = load_weights_and_config(args.weights or args.task)
    if args.level is not None:
        theta, config = bake(model, theta, config, model.task.space.parse(args.level))
        model = make_model(config)
    level = model.task.space.only

    if args.format == "safetensors":
        save_weights(output, theta, config, overwrite=args.overwrite)
    elif args.format == "onnx":
        metadata = describe(model, level=level, layout="NCHW", level_map=args.level_map)
        content = onnx_bytes(model, theta, metadata, level_map=args.level_map)
        write_atomically(output, content, overwrite=args.overwrite)
    else:
        content = stablehlo_bytes(model, theta, level_map=args.level_map)
        metadata = describe(model, level=level, layout="NHWC", level_map=args.level_map)
        text = json.dumps(metadata, indent=2) + "\n"
        write_atomically(outputs[1], text.encode(), overwrite=args.overwrite)
        write_atomically(output, content, overwrite=args.overwrite)
    served = "every level, given as an input" if not is_plain(model) else "one plain network"
    if args.level_map:
        served = "a level for each pixel, given as an input"
    if level is not None:
        served = f"{level.describe()} baked in"
    print(f"wrote {output} ({output.stat().st_size:,} bytes; {model.task.name}, {served})")
    return 0
