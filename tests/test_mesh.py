"""Training on several devices, or in several processes, means what it means on one."""

import json
import os
import socket
import subprocess
import sys

import pytest
from preemption import train_command

from .conftest import REPOSITORY

# Run in processes of their own: the number of devices is fixed at the first use of JAX.
PROGRAM = """
import re, sys
import jax
import numpy as np

devices, level_devices = int(sys.argv[1]), int(sys.argv[2])
jax.config.update("jax_num_cpu_devices", devices)

from hypernet_jax.model import make_model
from hypernet_jax.training.mesh import make_mesh, place_batch, replicate
from hypernet_jax.training.optimizer import make_optimizer
from hypernet_jax.training.recipes import recipe
from hypernet_jax.training.step import init_state, make_train_step
from tests.test_restoration import tiny_config

config = recipe("compact").optimizer
model = make_model(tiny_config())
mesh = make_mesh(level_devices=level_devices, levels=4, crops=8)
optimizer = make_optimizer(config, 50)
step = make_train_step(
    model=model, optimizer=optimizer, mesh=mesh, seed=0, decay=0.9, remat=devices == 8
)
state = replicate(mesh, init_state(model.init(jax.random.key(0)), optimizer))
rng = np.random.default_rng(0)
for index in range(50):
    batch = {
        "clean": rng.integers(0, 256, (8, 12, 12, 3), dtype=np.uint8),
        "ids": np.arange(8 * index, 8 * index + 8, dtype=np.int32),
        "levels": np.float32([10, 30, 60, 90]),
    }
    placed = place_batch(mesh, batch)
    if index == 0:
        text = step.lower(state, placed).compile().as_text()
        count = len(re.findall(r"= \\S+ all-reduce(?:-start)?\\(", text))
        others = re.findall(r"all-gather|all-to-all|collective-permute", text)
        print("collectives", count, sorted(set(others)))
    with jax.transfer_guard("disallow"):
        state, metrics = step(state, placed)
    print("loss", float(metrics["loss"]), float(metrics["psnr"]))
"""


def run(devices, level_devices):
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(devices), str(level_devices)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    collectives = next(line for line in lines if line.startswith("collectives"))
    values = [[float(x) for x in line.split()[1:]] for line in lines if line.startswith("loss")]
    assert len(values) == 50
    return collectives, values


@pytest.fixture(scope="module")
def one_device():
    return run(1, 1)[1]


@pytest.mark.parametrize("level_devices", [1, 2, 4])
def test_eight_devices_train_as_one(level_devices, one_device):
    collectives, values = run(8, level_devices)
    assert collectives == "collectives 1 []", "one all-reduce, and no image travels"
    for got, expected in zip(values, one_device, strict=True):
        assert got == pytest.approx(expected, rel=1e-5)


def test_two_processes_train_as_one(default_data, tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = ["--processes=2", f"--coordinator=localhost:{port}"]
    options = {"steps": 20, "dataset": str(default_data), "log_every": 1}
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    commands = [
        [*train_command(tmp_path / "two", **options), *together, f"--process={process}"]
        for process in range(2)
    ]
    processes = [
        subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stderr=subprocess.PIPE, text=True
        )
        for command in commands
    ]
    try:
        for process in processes:
            _, told = process.communicate(timeout=200)
            assert process.returncode == 0, told
    finally:
        for process in processes:
            process.kill()
    command = train_command(tmp_path / "one", **options)
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=200)

    def losses(run):
        lines = (tmp_path / run / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines if "loss" in line]

    assert len(losses("two")) == 20
    assert losses("two") == pytest.approx(losses("one"), rel=1e-5)
