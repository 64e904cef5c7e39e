"""Training on several devices or in several processes equals training on one."""

import contextlib
import functools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from preemption import train_command

from hypernet_jax.cli import processes
from hypernet_jax.errors import DEVICE_FULL, UserError
from hypernet_jax.training import mesh

from .conftest import REPOSITORY
from .models import tiny_config
from .scripts import run_script

# Runs in processes of their own, because the number of devices is fixed at the first use of JAX.
PROGRAM = """
import json, re, sys
import jax
import numpy as np

devices, level_devices, split, own_crops, steps = (int(x) for x in sys.argv[1:6])
per = sys.argv[7]
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", devices)

from hypernet_jax.model import make_model
from hypernet_jax.data.levels import BatchForm
from hypernet_jax.training.distillation import Teacher, Teachers
from hypernet_jax.training.mesh import make_mesh, place_batch, state_shardings
from hypernet_jax.training.optimizer import make_optimizer
from hypernet_jax.training.recipes import recipe
from hypernet_jax.training.step import init_state, make_train_step

config = recipe("compact").optimizer
model = make_model(json.loads(sys.argv[6]), remat=devices == 8)
mesh = make_mesh(level_devices=level_devices, levels=4, crops=8)
optimizer = make_optimizer(config, steps)
state = init_state(model.init(jax.random.key(0)), optimizer)
shardings = state_shardings(mesh, state, split=bool(split))
state = jax.device_put(state, shardings)
form = BatchForm(per=per, own_crops=bool(own_crops))
networks = tuple(Teacher(model, model.init(jax.random.key(seed))) for seed in (1, 2))
teachers = Teachers(networks, 0.1, views=True)
step = make_train_step(
    model=model,
    optimizer=optimizer,
    mesh=mesh,
    seed=0,
    decay=0.9,
    weighting="relative",
    balance=0.5,
    shardings=shardings,
    form=form,
    teachers=teachers,
)
rng = np.random.default_rng(0)
for index in range(steps):
    batch = {
        "clean": rng.integers(0, 256, (8, 12, 12, 3), dtype=np.uint8),
        "ids": np.arange(8 * index, 8 * index + 8, dtype=np.int32),
        "levels": np.float32([[10], [30], [60], [90]]),
    }
    if per != "step":
        of_crops = {"crop": (4, 8, 1), "pixel": (4, 8, 2, 1)}[per]
        batch["levels"] = rng.uniform(0, 100, of_crops).astype(np.float32)
    if own_crops:  # every level's own crops are the same ones here: so must be the losses
        for name in ("clean", "ids"):
            batch[name] = np.stack([batch[name]] * 4)
    placed = place_batch(mesh, batch, form)
    if index == 0:
        text = step.lower(state, placed).compile().as_text()
        reduced = re.findall(r"= (.+?) all-reduce(?:-start)?\\(", text)
        # Where the state is split, Muon adds up norms: a few numbers, not a gradient.
        sizes = [re.findall(r"\\[([\\d,]+)\\]", result) for result in reduced]
        count = sum(max(np.prod([*map(int, x.split(","))]) for x in s) > 100 for s in sizes)
        others = re.findall(r"all-to-all|collective-permute|reduce-scatter", text)
        shapes = re.findall(r"= \\w+\\[([\\d,]*)\\]\\S* all-gather(?:-start)?\\(", text)
        images = [s for s in shapes if s.split(",").count("12") > 1]  # crops are 12x12
        print("collectives", count, sorted(set(others)), images, bool(shapes))
    with jax.transfer_guard("disallow"):
        state, metrics = step(state, placed)
    # Its norm too: Muon and Adam hardly notice a gradient of another size.
    print("loss", *(float(metrics[name]) for name in ("loss", "psnr", "gradient_norm")))
biggest = max(jax.tree.leaves(state.ema), key=lambda leaf: leaf.size)
print("share", biggest.addressable_data(0).size / biggest.size)
"""


STEPS = 20


def run(devices, level_devices, *, split=0, own_crops=0, per="step"):
    config = tiny_config()
    config["network"]["channels"] = 8
    options = map(str, (devices, level_devices, split, own_crops, STEPS))
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "program.py"
        program.write_text(PROGRAM)
        process = run_script(program, *options, json.dumps(config), per)
    assert process.returncode == 0, process.stderr
    lines = [line.split(maxsplit=1) for line in process.stdout.splitlines()]
    facts = {name: rest for name, rest in lines if name != "loss"}
    values = [[float(x) for x in rest.split()] for name, rest in lines if name == "loss"]
    assert len(values) == STEPS
    return facts, values


@functools.cache
def one_device(per="step"):
    return run(1, 1, per=per)[1]


@pytest.mark.parametrize(
    ("level_devices", "own_crops", "per"), [(1, 0, "step"), (2, 1, "pixel"), (4, 1, "step")]
)
def test_eight_devices_train_as_one(level_devices, own_crops, per):
    facts, values = run(8, level_devices, own_crops=own_crops, per=per)
    assert facts["collectives"] == "1 [] [] False", "one large all-reduce, and no image travels"
    assert float(facts["share"]) == 1.0
    for got, expected in zip(values, one_device(per), strict=True):
        assert got == pytest.approx(expected, rel=1e-5)


def test_a_state_split_over_devices_trains_as_a_whole_one():
    facts, values = run(8, 2, split=1)
    assert facts["collectives"] == "1 [] [] True", "parameters are gathered, images are not"
    assert float(facts["share"]) == 1 / 8
    for got, expected in zip(values, one_device(), strict=True):
        assert got == pytest.approx(expected, rel=1e-5)


# What SLURM's own commands do, for two processes on this machine.
SRUN = """#!/bin/bash
shift  # --kill-on-bad-exit
export SLURM_NTASKS=2 SLURM_STEP_NODELIST=localhost
for process in 0 1; do
    SLURM_PROCID=$process SLURM_LOCALID=$process "$@" &
    tasks+=($!)
done
trap 'kill -TERM "${tasks[1]}"' TERM  # to one of them: both must end
wait "${tasks[0]}"
status=$?
while ((status > 128)); do wait "${tasks[0]}"; status=$?; done
wait "${tasks[1]}" && exit "$status"
"""
SCONTROL = """#!/bin/bash
echo "$@" >> "$REQUEUED"
"""


def start_two(workdir, options, folder):
    """Two processes that train together, as launch/slurm.sh starts them."""
    commands = folder / "bin"
    commands.mkdir(exist_ok=True)
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    return subprocess.Popen(
        ["launch/slurm.sh", *train_command(workdir, **options)[2:]],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "PATH": f"{commands}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "SLURM_JOB_ID": str(random.SystemRandom().randrange(10**6)),
            "REQUEUED": str(folder / "requeued"),
        },
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait(job):
    try:
        _, errors = job.communicate(timeout=200)
        assert job.returncode == 0, errors
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)


def losses(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines if "loss" in line]


def test_two_processes_train_as_one_and_stop_together(default_data, tmp_path):
    options = {"steps": STEPS, "dataset": str(default_data), "log_every": 1}
    two, one = tmp_path / "two", tmp_path / "one"
    job = start_two(two, options, tmp_path)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (two / "metrics.jsonl").exists():
        time.sleep(0.05)
    # One process gets the signal to stop; both save the same step and exit with status 0.
    job.send_signal(signal.SIGTERM)
    wait(job)
    assert (tmp_path / "requeued").read_text().startswith("requeue ")
    stopped = len(losses(two))
    assert 0 < stopped < STEPS
    wait(start_two(two, options, tmp_path))
    assert len((tmp_path / "requeued").read_text().splitlines()) == 1
    assert run_script("train.py", *train_command(one, **options)[2:]).returncode == 0
    assert len(losses(two)) == STEPS
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)


def test_a_lost_process_ends_the_others_with_a_sentence(monkeypatch, capsys):
    def end(status):
        raise SystemExit(status)

    lost = "INTERNAL: Error dispatching computation: all-reduce failed: Connection closed."

    def lose(error=None):
        with processes.ending_with_the_others():
            raise error or jax.errors.JaxRuntimeError(lost)

    with pytest.raises(jax.errors.JaxRuntimeError):  # of one process it is something else
        lose()
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(processes, "_LAST_WORDS", 0)
    # After it no thread of the process can write: it is for those that end.
    monkeypatch.setattr(processes, "remove_partial_files", lambda: None)
    with pytest.raises(SystemExit) as stop:
        lose()
    assert stop.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith("error: Another process") and message.count("\n") == 1
    assert "(Connection closed); start all of them again" in message
    # Its own mistakes end a process as well, at once: the others wait for it.
    for error, status, said in (
        (ValueError(lost), 1, "error: Another process"),
        (UserError("Do that."), 2, "error: Do that.\n"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: so"), 2, f"error: {DEVICE_FULL}\n"),
        (OSError(28, "No space left on device", "a"), 2, "error: No space left on device: a.\n"),
        (ValueError("NOT_FOUND: so"), 1, "Traceback"),
    ):
        with pytest.raises(SystemExit) as stop:
            lose(error)
        assert stop.value.code == status and capsys.readouterr().err.startswith(said)


def test_a_row_of_levels_lies_within_one_process():
    grid = np.array([[4, 0, 6, 2], [5, 1, 7, 3]])  # as a pod's network may order them
    devices = [SimpleNamespace(process_index=number // 4, id=number) for number in grid.ravel()]
    rows = np.reshape([each.id for each in mesh.in_order(devices)], (4, 2))
    np.testing.assert_array_equal(rows, [[0, 1], [2, 3], [4, 5], [6, 7]])
