"""Compares exported models with the live one: file size, and time per image.

    python benchmarks/exported.py [--height 320] [--width 480] [--rounds 5]

Rows: the shipped denoiser and a network of the published size (untrained, because neither size
nor time depends on the weights), each for every level and with one level baked in. `ratio` is
the time over that of the live model. Last line: JSON. Needs the extra `onnx`, and onnxruntime.
"""

import argparse
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
from jax import export
from safetensors.numpy import save
from timing import interleave, print_table

from hypernet_jax.interchange.onnx_model import export_onnx
from hypernet_jax.interchange.portable import bake, describe
from hypernet_jax.interchange.stablehlo import export_stablehlo
from hypernet_jax.model import make_model, model_config
from hypernet_jax.training.recipes import recipe
from hypernet_jax.weights import load_weights_and_config

LEVEL = 25.0


def published() -> tuple[Any, Any, dict[str, Any]]:
    """An untrained network of the published size."""
    training = recipe("published")
    training.task = "denoise"
    config = model_config(training)
    model = make_model(config)
    return model, model.init(jax.random.key(0)), config


def safetensors_size(theta) -> int:
    """Bytes of the weights in a safetensors file, without metadata."""
    leaves = {str(i): np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(theta))}
    return len(save(leaves))


def contenders(model, theta, image: np.ndarray, *, baked: bool) -> dict[str, tuple[int, Any]]:
    """For each form: bytes of the file, and a function that restores the image."""
    live = jax.jit(lambda level, image: model.apply(model.generate(theta, level), image))
    level = jnp.float32(LEVEL)

    stablehlo = export_stablehlo(model, theta)
    called = jax.jit(export.deserialize(bytearray(stablehlo)).call)
    inputs = (jnp.asarray(image),) if baked else (jnp.asarray(image), level)

    metadata = describe(model, level=LEVEL if baked else None, layout="NCHW")
    onnx = export_onnx(model, theta, metadata=metadata).SerializeToString()
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    planes = {"image": np.ascontiguousarray(image.transpose(0, 3, 1, 2))}
    if not baked:
        planes["level"] = np.array(LEVEL, np.float32)

    expected = np.asarray(live(level, inputs[0]))
    for got in (called(*inputs), session.run(None, planes)[0].transpose(0, 2, 3, 1)):
        np.testing.assert_allclose(np.asarray(got), expected, atol=1e-4, rtol=0)
    return {
        "live (safetensors)": (safetensors_size(theta), lambda: live(level, inputs[0])),
        "stablehlo": (len(stablehlo), lambda: called(*inputs)),
        "onnx": (len(onnx), lambda: session.run(None, planes)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=320)
    parser.add_argument("--width", type=int, default=480)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()

    image = np.random.default_rng(0).random((1, args.height, args.width, 3), np.float32)
    rows, summary = [], {}
    networks = {"shipped": load_weights_and_config("denoise"), "published size": published()}
    for name, (model, theta, config) in networks.items():
        runs, sizes = {}, {}
        for form, baked in (("every level", False), (f"sigma {LEVEL:g} baked in", True)):
            if baked:
                level = model.task.space.parse(LEVEL)
                theta, config = bake(model, theta, config, level)
                model = make_model(config)
            for artefact, (size, run) in contenders(model, theta, image, baked=baked).items():
                runs[form, artefact], sizes[form, artefact] = run, size
        # All forms of a network take turns, so that a busy machine slows all of them equally.
        seconds = interleave(runs, rounds=args.rounds)
        base = seconds["every level", "live (safetensors)"]
        for (form, artefact), time in seconds.items():
            size = sizes[form, artefact]
            rows.append([name, form, artefact, f"{size:,}", time, time / base])
            summary[f"{name}/{form}/{artefact}"] = {"bytes": size, "seconds": round(time, 4)}
    header = ["network", "form", "artefact", "bytes", f"s per {args.width}x{args.height}", "ratio"]
    print_table(header, rows, {"artefacts": summary})


if __name__ == "__main__":
    main()
