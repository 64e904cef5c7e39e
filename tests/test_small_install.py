"""The package without its extra for training, and what the command imports."""

import json
import subprocess
import sys

import pytest
from PIL import Image

from .models import tiny_config, tiny_theta

MISSING = (
    "array_record",
    "grain",
    "matplotlib",
    "ml_collections",
    "optax",
    "orbax",
    "tensorboardX",
    "tensorflow_datasets",
)

# Runs commands of the package and scripts one after the other, as if the extra were missing.
RUN = """
import contextlib, io, json, runpy, sys
from hypernet_jax.errors import UserError
for name in json.loads(sys.argv[1]):
    sys.modules[name] = None
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "matplotlib" else found(name, *rest)
from hypernet_jax import Restorer
from hypernet_jax.cli.main import main
for command in json.loads(sys.argv[2]):
    output = io.StringIO()
    with contextlib.redirect_stderr(output), contextlib.redirect_stdout(io.StringIO()):
        try:
            if command[0].endswith(".py"):
                sys.argv = command
                runpy.run_path(command[0], run_name="__main__")
            else:
                main(command)
        except SystemExit as stop:
            output.write(f" [{stop.code}]")
    print(json.dumps(output.getvalue()))
try:
    Restorer.from_workdir("run")
except UserError as error:
    print(json.dumps(f"error: {error} [2]"))
"""


def test_restoring_works_without_the_extra_for_training(tmp_path, photograph):
    from hypernet_jax import save_weights

    weights, image = tmp_path / "tiny.safetensors", tmp_path / "image.png"
    save_weights(weights, tiny_theta(tiny_config()), tiny_config())
    Image.fromarray(photograph[:40, :50]).save(image)
    restore = ["restore", str(image), "--weights", str(weights), "--level", "20", "-o"]
    commands = [
        [*restore, str(tmp_path / "out.png")],
        ["info", "--weights", str(weights)],
        ["prepare", str(tmp_path), "-o", str(tmp_path / "dataset")],
        ["weights", str(tmp_path), "-o", str(tmp_path / "w.safetensors")],
        ["info", "--config", "configs/denoise.py"],
        ["train.py", "--config=configs/denoise.py", f"--workdir={tmp_path / 'run'}"],
        [
            "evaluate.py",
            f"--weights={weights}",
            f"--dataset={tmp_path}",
            f"--output={tmp_path}-report",
        ],
    ]
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(MISSING), json.dumps(commands)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    restored, info, *others = map(json.loads, done.stdout.splitlines())
    assert "[" not in info and "[" not in restored, (restored, info)
    assert Image.open(tmp_path / "out.png").size == (50, 40)
    assert len(others) == 6
    for message in others:
        assert (message.startswith("error: ") and message.endswith(".\n [2]")) or message.endswith(
            ". [2]"
        ), message
        assert "pip install 'hypernet-jax[train]'" in message


@pytest.mark.parametrize("code", ["import hypernet_jax", "from hypernet_jax.cli.main import main"])
def test_importing_is_cheap(code):
    assert "jax" not in imported(code)


def test_help_imports_no_jax():
    code = """
import contextlib
from hypernet_jax.cli.main import main
with contextlib.suppress(SystemExit):
    main(["--help"])
"""
    assert not {"jax", "numpy", "PIL"} & imported(code)


def imported(code):
    """Top-level modules that are there after some code."""
    code += "\nimport sys; print('\\n' + ' '.join({n.partition('.')[0] for n in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())
