"""Assembles the static page: its files, the exported models, and onnxruntime-web from npm.

    python web/assemble.py -o FOLDER [--weights FILE ...]

The folder is self-contained: put it on any static host, or serve it with
`python -m http.server --directory FOLDER`. Needs npm and the extra `onnx`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import skimage.data
from PIL import Image

from hypernet_jax.axes import LevelAxis
from hypernet_jax.blind.estimate import estimate_photo, photo_estimator
from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.cli.export import onnx_bytes
from hypernet_jax.degradations import bicubic_resize
from hypernet_jax.errors import UserError
from hypernet_jax.evaluation.measure import noise_key
from hypernet_jax.interchange.onnx_estimator import export_estimator
from hypernet_jax.interchange.portable import describe, is_plain
from hypernet_jax.levels import Level
from hypernet_jax.model import Model
from hypernet_jax.networks import spec_of
from hypernet_jax.tasks import DEFAULT_TASK
from hypernet_jax.weights import load_weights, shipped_tasks

PAGE = (
    *("index.html", "page.css", "page.js", "levels.js", "brush.js", "pixels.js"),
    *("worker.js", "runtime.js", "isolate.js"),
)
RUNTIME = (
    *("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    # For WebGPU.
    *("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs"),
    "ort-wasm-simd-threaded.asyncify.wasm",
)
HERE = Path(__file__).parent
# Sides of the page's tiles without their margin, as in worker.js.
_TILES = (256, 128)
# Number of entries in the table of levels and z.
_TABLE = 513


def runtime(folder: Path) -> None:
    """Installs onnxruntime-web from npm and copies its files to a folder."""
    npm = shutil.which("npm")
    if npm is None:
        raise UserError("Assembling the page needs npm, which comes with Node.js; install it.")
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(HERE / "package.json", scratch)
        command = [npm, "install", "--no-package-lock", "--no-audit", "--no-fund"]
        command += ["--fetch-timeout=60000", "--fetch-retries=1"]
        process = subprocess.run(
            [*command, "--ignore-scripts", "--prefix", scratch],
            cwd=scratch,
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode:
            reason = (process.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserError(
                f"npm could not install onnxruntime-web ({reason}); check the network connection."
            )
        for name in RUNTIME:
            shutil.copy(Path(scratch) / "node_modules/onnxruntime-web/dist" / name, folder)


def example(model: Model, level: Level) -> np.ndarray:
    """A photograph degraded for the task; for enlarging, a small one."""
    name = model.task.name
    photograph = skimage.data.coffee()[20:340, 120:540]
    factor = model.task.factor(level)
    if factor is not None:
        small = bicubic_resize(photograph, 1.0 / factor)
        return np.clip(np.round(small), 0, 255).astype(np.uint8)
    _, protocol = model.task.protocol(None)
    degraded = np.asarray(protocol.degradation(noise_key(0, name), photograph, level.named))
    return np.clip(np.round(degraded), 0, 255).astype(np.uint8)


def entry(model: Model, theta: Any, folder: Path) -> dict[str, Any]:
    """Writes a model and its example; returns its entry in models.json."""
    if is_plain(model) or model.colours != 3:
        raise UserError("The page needs colour networks for every level; give other weights.")
    name = model.task.name
    level = model.task.space.parse(model.task.starting_level)
    metadata = describe(model, level=None, layout="NCHW")
    (folder / f"{name}.onnx").write_bytes(onnx_bytes(model, theta, metadata))
    Image.fromarray(example(model, level)).save(folder / f"example-{name}.png")
    spec = spec_of(model.network)
    if not spec.exact_tiles or spec.reach is None or any(n % spec.multiple_of for n in _TILES):
        raise UserError("The page restores in tiles, which this network cannot do; give another.")
    # Rounded up so that tiles begin at multiples of what the network needs.
    margin = spec.reach + -spec.reach % spec.multiple_of
    if not model.task.enlarges:
        metadata = describe(model, level=None, layout="NCHW", level_map=True)
        content = onnx_bytes(model, theta, metadata, level_map=True)
        (folder / f"{name}-map.onnx").write_bytes(content)
    found: dict[str, Any] = {
        "title": model.task.title,
        "file": f"{name}.onnx",
        "example": f"example-{name}.png",
        "axes": [_axis(axis, level[axis.name]) for axis in model.task.space.axes],
        "enlarges": model.task.enlarges,
        "margin": margin,
        "gpu": _runs_on_gpus(model),
    }
    if not model.task.enlarges:
        found["mapFile"] = f"{name}-map.onnx"
    if model.task.estimate is estimate_photo:
        found["estimator"] = f"{name}-level.onnx"
        estimator = export_estimator(photo_estimator(), model.task.space)
        (folder / found["estimator"]).write_bytes(estimator.SerializeToString())
    return found


def _runs_on_gpus(model: Model) -> bool:
    """Whether onnxruntime-web gives correct results on WebGPU.

    Version 1.30 does not if inner widths are not multiples of four.
    """
    side = spec_of(model.network).multiple_of
    image = jax.ShapeDtypeStruct((1, side, side, model.colours), jnp.float32)
    shapes = jax.eval_shape(model.network.init, jax.random.key(0), image)
    kernels = [leaf.shape for leaf in jax.tree.leaves(shapes) if len(leaf.shape) == 4]
    widths = {width for shape in kernels for width in shape[-2:]} - {model.colours}
    return all(width % 4 == 0 for width in widths)


def _axis(axis: LevelAxis, level: float) -> dict[str, Any]:
    """A part of the level for the page: its range, and a table of levels by z."""
    low, high = sorted(float(axis.normalise(value)) for value in (axis.low, axis.high))
    z = np.linspace(low, high, _TABLE)
    return {
        "name": axis.name,
        "quantity": axis.quantity,
        "unit": axis.unit,
        "low": axis.low,
        "high": axis.high,
        "level": float(level),
        "step": axis.step,
        "neutral": axis.neutral,
        "z": np.round(z, 7).tolist(),
        "values": np.round(axis.values_at(z), 5).tolist(),
    }


def assemble(output: Path, weights: list[str]) -> None:
    """Creates the folder, complete or not at all."""
    if output.exists():
        raise UserError(f"The output {output} already exists; choose another or remove it.")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        folder = Path(scratch) / "page"
        (folder / "ort").mkdir(parents=True)
        runtime(folder / "ort")
        for name in PAGE:
            shutil.copy(HERE / name, folder)
        models: dict[str, Any] = {}
        for name in weights:
            model, theta = load_weights(name)
            models[model.task.name] = entry(model, theta, folder)
        (folder / "models.json").write_text(json.dumps(models, indent=2) + "\n")
        folder.rename(output)


def _servable() -> list[str]:
    """The shipped tasks, the default task first."""
    return sorted(shipped_tasks(), key=lambda name: name != DEFAULT_TASK)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", required=True, help="folder to create")
    parser.add_argument(
        "--weights", nargs="+", default=_servable(), help="names or files, one per task"
    )
    args = parser.parse_args()
    with exit_with_sentence():
        assemble(Path(args.output), args.weights)
    print(f"wrote {args.output}; python -m http.server --directory {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
