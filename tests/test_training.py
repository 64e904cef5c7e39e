"""Training: the step, the loop, and interrupted runs."""

import dataclasses
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from preemption import identical, run_with_kills, train_command

from configs.photo import get_config as photo_recipe
from hypernet_jax import UserError, save_weights
from hypernet_jax.checkpoints import Checkpoints, load_ema
from hypernet_jax.data.levels import BatchForm
from hypernet_jax.data.pipeline import Crops
from hypernet_jax.data.prepare import open_split, prepare_dataset
from hypernet_jax.model import make_model, model_config
from hypernet_jax.tasks import get_task
from hypernet_jax.training import loop
from hypernet_jax.training.batches import degrade_batch
from hypernet_jax.training.config import check_config, config_difference
from hypernet_jax.training.loop import train
from hypernet_jax.training.mesh import place_batch, state_shardings
from hypernet_jax.training.optimizer import ema_decay, make_optimizer, make_schedule
from hypernet_jax.training.recipes import recipe
from hypernet_jax.training.reports import Meter, MetricsWriter
from hypernet_jax.training.validation import Validation
from hypernet_jax.training.workdir import alone_in

from .conftest import REPOSITORY
from .models import (
    descent,
    device_task,
    start_training,
    tiny_config,
    tiny_theta,
    tiny_training_config,
)
from .scripts import run_script

FORM = BatchForm()


def metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("task", ["denoise", "dejpeg", "sr"])
def test_a_run_leaves_what_it_promises(task, default_data, tmp_path, capsys):
    config = tiny_training_config(default_data, task)
    state = train(config, tmp_path, progress=False)
    assert int(state.step) == 6
    lines = metrics(tmp_path)
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    assert sorted(losses) == [2, 4, 6] and all(0 < loss < 1 for loss in losses.values())
    names = {f"validation/psnr_{level:g}" for level in config.validation.levels}
    assert all(names <= line.keys() for line in lines if "validation/psnr" in line)
    assert list((tmp_path / "tensorboard").iterdir())
    saved, ema = load_ema(tmp_path)
    assert model_config(saved) == json.loads(json.dumps(model_config(config.to_dict())))
    chex.assert_trees_all_equal(ema, state.ema)
    capsys.readouterr()
    train(config, tmp_path)
    said = capsys.readouterr().err
    assert f"The run in {tmp_path} is complete: it has 6 steps." in said
    assert f"`hypernet-jax weights {tmp_path} -o FILE.safetensors`" in said
    config.steps = 7
    with pytest.raises(UserError, match=r"config\.steps was 6 and is now 7.*initial_weights"):
        train(config, tmp_path)


def test_every_field_reaches_what_it_is_for(default_data, tmp_path, monkeypatch):
    """Changed config fields reach the components, and show in the output."""
    config = tiny_training_config(default_data)
    config.levels.update({"power": 1.7, "whole": 0.3, "absent": 0.2})
    config.data.update({"grey": 0.4, "crops": 4, "threads": 1})
    config.data.update({"recoloured": 0.3, "darkened": 0.1, "softened": 0.4})
    config.data.update({"largest_share": 0.5})
    config.update({"seed": 3, "ema_decay": 0.7, "loss": "l2", "steps": 4, "log_every": 1})
    config.levels.weighting = "equal"
    config.update({"balance": 0.4})
    teacher = tmp_path / "teacher.safetensors"
    save_weights(teacher, tiny_theta(tiny_config()), tiny_config())
    config.distillation.update({"teachers": (str(teacher),), "share": 0.6, "views": False})
    config.optimizer.update({"learning_rate": 3e-3, "warmup_steps": 2})
    passed = {}

    def telling(name, make):
        def told_and_made(*arguments, **options):
            passed[name] = options
            return make(*arguments, **options)

        monkeypatch.setattr(loop, name, told_and_made)

    for name in ("LevelSampler", "make_pipeline", "make_train_step"):
        telling(name, getattr(loop, name))
    state = train(config, tmp_path, progress=False)
    levels = config.levels
    assert passed["LevelSampler"] == {
        "low": levels.low, "high": levels.high, "count": levels.count, "power": 1.7,
        "whole": 0.3, "absent": 0.2, "neutral": (0.0,), "fixed": (),
        "form": BatchForm("step", own_crops=True),
    }  # fmt: skip
    cut = Crops(16, colours=3, grey=0.4, recoloured=0.3, darkened=0.1, softened=0.4)
    pipeline = {"seed": 3, "crops": 4, "cut": cut, "threads": 1, "largest_share": 0.5}
    assert pipeline.items() <= passed["make_pipeline"].items()
    step = {"seed": 3, "decay": 0.7, "loss": "l2", "weighting": "equal", "balance": 0.4}
    assert step.items() <= passed["make_train_step"].items()
    teachers = passed["make_train_step"]["teachers"]
    assert (teachers.share, teachers.views) == (0.6, False)

    lines = metrics(tmp_path)
    losses = [line for line in lines if "loss" in line]
    schedule = make_schedule(config.optimizer, config.steps)
    assert [line["learning_rate"] for line in losses] == [float(schedule(n)) for n in range(4)]
    # Validation uses the parameter average, as do shipped weights.
    model = make_model(model_config(config))
    validation = Validation(model, open_split(default_data, "validation"), config.validation)
    last = [line for line in lines if "validation/psnr" in line][-1]
    assert last["validation/psnr"] == pytest.approx(validation(state.ema)["validation/psnr"])
    assert abs(last["validation/psnr"] - validation(state.theta)["validation/psnr"]) > 1e-3


def events(workdir):
    """TensorBoard's scalars as {(tag, step): value}, and the steps of purges."""
    from tensorboardX.proto.event_pb2 import Event

    scalars, purged = {}, []
    for file in sorted((workdir / "tensorboard").iterdir()):
        content = file.read_bytes()
        while content:
            # A record: length, checksum, content, checksum.
            length = int.from_bytes(content[:8], "little")
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            scalars |= {(one.tag, event.step): one.simple_value for one in event.summary.value}
            if event.session_log.status:
                purged.append(event.step)
    return scalars, purged


def test_tensorboard_tells_what_metrics_jsonl_tells(tmp_path):
    with MetricsWriter(tmp_path, resume_step=None) as writer:
        for step in range(1, 5):
            writer.write(step, {"loss": 1.0 / step, "validation/psnr": 20.0 + step})
        # Not closed yet: a killed run resumes from a checkpoint, and logs no step twice.
        end = time.monotonic() + 20
        while len(events(tmp_path)[0]) < 8 and time.monotonic() < end:
            time.sleep(0.1)
        scalars, _ = events(tmp_path)
        assert [scalars["loss", step] for step in range(1, 5)] == pytest.approx(
            [1, 1 / 2, 1 / 3, 1 / 4]
        )
    with MetricsWriter(tmp_path, resume_step=2) as writer:
        writer.write(3, {"loss": 7.0})
    assert [(line["step"], line["loss"]) for line in metrics(tmp_path)] == [
        (1, 1),
        (2, 0.5),
        (3, 7),
    ]
    scalars, purged = events(tmp_path)
    assert purged == [1, 3] and scalars["loss", 3] == 7
    assert scalars["validation/psnr", 2] == 22
    # A run that was stopped before its first step goes on; another one starts anew.
    with MetricsWriter(tmp_path, resume_step=0) as writer:
        writer.write(0, {"loss": 5.0})
    with MetricsWriter(tmp_path, resume_step=0):
        assert [line["loss"] for line in metrics(tmp_path)] == [5]
    with MetricsWriter(tmp_path, resume_step=None):
        assert metrics(tmp_path) == [] and (tmp_path / "metrics-1.jsonl").exists()


def test_rates_leave_validation_out_and_count_the_waiting(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def take(seconds):
        now[0] += seconds

    meter = Meter()
    for _ in range(4):
        with meter.waiting():
            take(0.5)
        take(1.5)
        meter.count(images=6)
        with meter.paused():
            take(100.0)
    rates = {"images_per_second": 3.0, "steps_per_second": 0.5, "data_wait": 0.25}
    assert meter.rates() == rates


@pytest.fixture
def stop_at(monkeypatch):
    """A function that stops a run in one of its steps, with the signal of a preempted machine.

    `after` may change what that step returns.
    """
    make = loop.make_train_step

    def stop(number, after=lambda state, values: (state, values)):
        def counting(**options):
            step, count = make(**options), itertools.count(1)

            def counted(state, batch):
                if next(count) != number:
                    return step(state, batch)
                os.kill(os.getpid(), signal.SIGTERM)
                return after(*step(state, batch))

            counted.lower = step.lower  # for its cost
            return counted

        monkeypatch.setattr(loop, "make_train_step", counting)

    yield stop


def test_a_stopped_run_ends_bit_for_bit_as_an_unstopped_one(
    default_data, tmp_path, capsys, stop_at
):
    config = tiny_training_config(default_data)
    config.steps = 9
    whole = train(config, tmp_path / "whole", progress=False)
    stop_at(4)
    partial = train(config, tmp_path / "parts", progress=False)
    assert "Stopped at step 4 of 9" in capsys.readouterr().err
    assert int(partial.step) == 4
    stop_at(0)
    resumed = train(config, tmp_path / "parts", progress=False)
    chex.assert_trees_all_equal(resumed, whole)
    last = [
        [line["loss"] for line in metrics(tmp_path / run) if "loss" in line][-1]
        for run in ("whole", "parts")
    ]
    assert last[0] == last[1]
    steps = [line["step"] for line in metrics(tmp_path / "parts") if "loss" in line]
    assert steps == sorted(set(steps))


def test_a_signal_while_the_last_checkpoint_is_written(default_data, tmp_path, monkeypatch):
    config = tiny_training_config(default_data)
    config.steps, leave = 2, Checkpoints.__exit__

    def interrupted(self, *exception):
        os.kill(os.getpid(), signal.SIGTERM)
        leave(self, *exception)

    monkeypatch.setattr(Checkpoints, "__exit__", interrupted)
    # What a killed run was writing is no checkpoint, and is removed.
    left = tmp_path / "checkpoints" / "1.orbax-checkpoint-tmp"
    (left / "state").mkdir(parents=True)
    train(config, tmp_path, progress=False)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["2"]


def test_without_a_device_for_degradations(default_data, tmp_path, monkeypatch):
    def none(backend=None):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr("hypernet_jax.data.pipeline.jax.local_devices", none)
    config = tiny_training_config(default_data, "dejpeg")
    config.levels.normalisation = get_task("dejpeg").space.single.normalisation
    with pytest.raises(UserError, match="add it, as in JAX_PLATFORMS=cuda,cpu"):
        train(config, tmp_path, progress=False)


def test_a_state_that_is_not_finite_is_not_saved_on_a_stop(default_data, tmp_path, stop_at):
    config = tiny_training_config(default_data)
    config.steps, config.log_every = 9, 9

    def gone(state, values):
        return state, values | {"loss": jax.device_put(np.float32("nan"))}

    stop_at(5, gone)
    with pytest.raises(UserError, match="not finite at step 5"):
        train(config, tmp_path, progress=False)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]


def test_lines_of_an_earlier_run_are_kept(default_data, tmp_path):
    config = tiny_training_config(default_data)
    config.steps, config.log_every = 2, 1
    for number in (1, 2):
        train(config, tmp_path, progress=False)
        before = (tmp_path / "metrics.jsonl").read_text()
        shutil.rmtree(tmp_path / "checkpoints")
        config.seed = number
    train(config, tmp_path, progress=False)
    assert (tmp_path / "metrics-2.jsonl").read_text() == before
    assert len({path.read_text() for path in tmp_path.glob("metrics*.jsonl")}) == 3


def test_validation_of_what_is_restored_to_the_bit(default_data):
    config = tiny_training_config(default_data)
    config.features.name = "proportional"  # at level 0 all kernels are zero
    config.validation.levels = (0.0, 50.0)
    model = make_model(model_config(config))
    validation = Validation(model, open_split(default_data, "validation"), config.validation)
    values = validation(model.init(jax.random.key(0)))
    assert values["validation/psnr_0"] == 100 and 5 < values["validation/psnr_50"] < 30
    assert values["validation/psnr"] == np.mean([100, values["validation/psnr_50"]])


def test_a_killed_command_resumes(default_data, tmp_path):
    """Kills the real command at random moments; benchmarks/preemption.py is the long version."""
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    options = {"steps": 200, "dataset": str(default_data)}
    assert run_script("train.py", *train_command(whole, **options)[2:]).returncode == 0
    hits = run_with_kills(
        train_command(killed, **options),
        killed,
        signals=[signal.SIGKILL, signal.SIGTERM],
        rng=random.Random(0),
    )
    assert hits >= 1
    assert identical(whole, killed)
    assert metrics(killed)[-2]["loss"] == metrics(whole)[-2]["loss"]


def test_another_config_is_refused_and_nothing_is_lost(default_data, tmp_path):
    config = tiny_training_config(default_data)
    config.steps = 3
    train(config, tmp_path, progress=False)
    before = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("checkpoints/*"))
    config.network.channels = 8
    with pytest.raises(UserError, match=r"config\.network\.channels was 4 and is now 8"):
        train(config, tmp_path, progress=False)
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("checkpoints/*")) == before


@pytest.mark.parametrize("part", ["state", "data", "config"])
def test_a_damaged_checkpoint_is_passed_over(part, default_data, tmp_path):
    config = tiny_training_config(default_data)
    whole = train(config, tmp_path / "whole", progress=False)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    files = [p for p in (tmp_path / "run/checkpoints/6" / part).rglob("*") if p.is_file()]
    for file in files:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.warns(UserWarning, match=r"checkpoints/6 is damaged and passed over"):
        resumed = train(config, tmp_path / "run", progress=False)
    chex.assert_trees_all_equal(resumed, whole)
    assert (tmp_path / "run/damaged/6").is_dir()
    chex.assert_trees_all_equal(load_ema(tmp_path / "run")[1], whole.ema)


def test_all_processes_go_on_from_a_checkpoint_that_all_can_read(
    default_data, tmp_path, monkeypatch
):
    config = tiny_training_config(default_data)
    whole = train(config, tmp_path, progress=False)
    asked = []

    def not_the_newest(self, step, here):
        asked.append((step, here))
        return here and len(asked) != 2

    monkeypatch.setattr(Checkpoints, "_true_for_all", not_the_newest)
    with pytest.warns(UserWarning, match=r"checkpoints/6 .*another process cannot read its part"):
        resumed = train(config, tmp_path, progress=False)
    assert asked == [(6, True), (6, True), (3, True)]
    chex.assert_trees_all_equal(resumed, whole)


def test_processes_agree_on_the_same_step(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints._true_for_all(6, True) and not checkpoints._true_for_all(6, False)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    gathered = "jax.experimental.multihost_utils.process_allgather"
    for other, agreed in (([6, 1], True), ([6, 0], False)):
        monkeypatch.setattr(gathered, lambda own, other=other: np.stack([own, other]))
        assert checkpoints._true_for_all(6, True) == agreed
    monkeypatch.setattr(gathered, lambda own: np.stack([own, [3, 1]]))
    with pytest.raises(UserError, match=r"see different checkpoints in .* \(steps \[3, 6\]\)"):
        checkpoints._true_for_all(6, True)


def test_a_full_disk_is_told_and_the_last_checkpoint_kept(default_data, tmp_path):
    """A file-size limit simulates a full disk: writing fails in the same place."""
    config = tiny_training_config(default_data)
    config.steps = 3
    train(config, tmp_path, progress=False)
    program = (
        "import resource, signal, sys\n"
        "from hypernet_jax.cli.errors import exit_with_sentence\n"
        "from hypernet_jax.checkpoints import Checkpoints\n"
        "import jax.numpy as jnp\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "with exit_with_sentence(), Checkpoints(sys.argv[1]) as checkpoints:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "    import grain\n"
        "    data = iter(grain.MapDataset.range(3).to_iter_dataset())\n"
        "    from hypernet_jax.training.step import TrainState\n"
        "    theta = jnp.arange(100_000.0) ** 0.5\n"
        "    state = TrainState(step=jnp.array(6), theta=theta, ema=theta, opt_state=())\n"
        "    checkpoints.save(state, data, '{}')\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        cwd=REPOSITORY,
    )
    assert process.returncode == 2, process.stderr
    message = process.stderr.strip().splitlines()[-1]
    assert message.startswith("error: A checkpoint could not be written")
    assert "step 3 is kept" in message
    load_ema(tmp_path)


@pytest.mark.parametrize(
    ("name", "folder"), [("checkpoints", False), ("tensorboard", False), ("metrics.jsonl", True)]
)
def test_foreign_things_in_the_workdir_are_reported(name, folder, default_data, tmp_path):
    (tmp_path / name).mkdir() if folder else (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="another --workdir"):
        train(tiny_training_config(default_data), tmp_path, progress=False)


def test_a_dataset_without_validation_trains(photographs, tmp_path):
    (tmp_path / "photographs").mkdir()
    shutil.copy(photographs / "coffee.png", tmp_path / "photographs")
    prepare_dataset(tmp_path / "photographs", tmp_path / "ds", progress=False)
    config = tiny_training_config(tmp_path / "ds")
    config.steps = 2
    assert int(train(config, tmp_path / "run", progress=False).step) == 2


def test_training_goes_on_from_weights(default_data, tmp_path):
    config = tiny_training_config(default_data)
    config.steps = 2
    state = train(config, tmp_path / "first", progress=False)
    file = tmp_path / "first.safetensors"
    save_weights(file, state.ema, model_config(config))
    config.initial_weights = str(file)
    config.optimizer.learning_rate = 1e-12
    again = train(config, tmp_path / "second", progress=False)
    chex.assert_trees_all_close(again.theta, state.ema, atol=1e-9)
    # A run that started from weights resumes without them.
    file.rename(tmp_path / "gone")
    chex.assert_trees_all_equal(
        train(config, tmp_path / "second", progress=False).theta, again.theta
    )
    (tmp_path / "gone").rename(file)
    # What they reach is there to compare with.
    validated = [line["step"] for line in metrics(tmp_path / "second") if "validation/psnr" in line]
    assert validated == [0, 2]
    config.network.channels = 2
    with pytest.raises(UserError, match=r"do not fit .*\(network\.channels: theirs \d+, here 2\)"):
        train(config, tmp_path / "third", progress=False)
    # A run that did not begin leaves no folder, but one that was there stays.
    assert not (tmp_path / "third").exists()
    (tmp_path / "third").mkdir()
    with pytest.raises(UserError, match="do not fit"):
        train(config, tmp_path / "third", progress=False)
    assert (tmp_path / "third").is_dir()


def test_no_readable_checkpoint_stops_with_a_sentence(default_data, tmp_path):
    config = tiny_training_config(default_data)
    config.steps = 3
    train(config, tmp_path, progress=False)
    for file in (tmp_path / "checkpoints/3/state").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    before = (tmp_path / "metrics.jsonl").read_text()
    with pytest.warns(UserWarning), pytest.raises(UserError, match="can be read"):
        load_ema(tmp_path)
    for _ in range(2):  # the second start must resume
        with pytest.warns(UserWarning), pytest.raises(UserError, match="can be read"):
            train(config, tmp_path, progress=False)
    assert (tmp_path / "checkpoints/3").is_dir()
    assert (tmp_path / "metrics.jsonl").read_text() == before


def test_another_number_of_processes_is_reported(default_data, tmp_path):
    config = tiny_training_config(default_data)
    config.steps = 3
    train(config, tmp_path, progress=False)
    data = tmp_path / "checkpoints/3/data"
    (data / "process_0-of-1.json").rename(data / "process_0-of-2.json")
    with pytest.raises(UserError, match=r"by 2 processes.*not by 1; go on with --processes=2"):
        train(config, tmp_path, progress=False)
    assert (tmp_path / "checkpoints/3").is_dir()


def test_fields_that_do_not_touch_the_result_may_change():
    saved = {"log_every": 1, "seed": 0, "checkpoint": {"keep": 3}, "data": {"threads": 2}}
    given = {"log_every": 9, "seed": 1, "checkpoint": {"keep": 4}, "data": {"threads": 8}}
    assert config_difference(saved, given) == ["config.seed was 0 and is now 1"]


def test_a_loss_that_is_not_finite_stops_the_run(default_data, tmp_path):
    config = tiny_training_config(default_data)
    config.optimizer.learning_rate = 1e30
    config.optimizer.clip_norm = 0.0
    with pytest.raises(UserError, match=r"lower config\.optimizer\.learning_rate"):
        train(config, tmp_path, progress=False)


def test_parameters_that_are_not_finite_are_not_saved(default_data, tmp_path, stop_at):
    """The reported loss of a step is that of the parameters before it."""

    def gone(state, values):
        return dataclasses.replace(state, theta=jax.tree.map(jnp.log, state.theta)), values

    stop_at(5, gone)
    with pytest.raises(UserError, match="The parameters are not finite at step 5"):
        train(tiny_training_config(default_data), tmp_path, progress=False)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]


def test_a_validation_that_is_not_finite_stops_the_run(default_data, tmp_path, monkeypatch):
    monkeypatch.setattr(
        loop, "Validation", lambda *_: lambda theta: {"validation/psnr": float("nan")}
    )
    with pytest.raises(UserError, match="The validation is not finite at step 3"):
        train(tiny_training_config(default_data), tmp_path, progress=False)
    assert all("validation/psnr" not in line for line in metrics(tmp_path))
    assert not list((tmp_path / "checkpoints").iterdir())


def test_other_photographs_are_refused_and_moved_ones_are_the_same(
    photographs, default_data, tmp_path
):
    dataset, run = tmp_path / "dataset", tmp_path / "run"
    shutil.copytree(default_data, dataset)
    config = tiny_training_config(dataset)
    config.steps = 3
    train(config, run, progress=False)
    moved = dataset.rename(tmp_path / "moved")
    config.data.dataset, config.checkpoint.keep = str(moved), 4
    assert int(train(config, run, progress=False).step) == 3
    (tmp_path / "photographs").mkdir()
    shutil.copy(photographs / "coffee.png", tmp_path / "photographs")
    prepare_dataset(tmp_path / "photographs", dataset, progress=False)
    config.data.dataset = str(dataset)
    with pytest.raises(UserError, match=r"was trained with another dataset so far"):
        train(config, run, progress=False)


def _wreck_info(dataset):
    (dataset / "dataset_info.json").write_text("{")


def _remove_features(dataset):
    (dataset / "features.json").unlink()


def _shard(dataset):
    return sorted(dataset.glob("*-train.array_record-*"))[0]


def _cut_shard(dataset):
    shard = _shard(dataset)
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])


def _remove_shard(dataset):
    _shard(dataset).unlink()


def _wreck_records(dataset):
    content = bytearray(_shard(dataset).read_bytes())
    content[len(content) // 8 : -(len(content) // 8)] = bytes(2 * (len(content) // 8))
    _shard(dataset).write_bytes(content)


@pytest.mark.parametrize(
    "damage", [_wreck_info, _remove_features, _cut_shard, _remove_shard, _wreck_records]
)
def test_a_damaged_dataset_is_reported(damage, default_data, tmp_path):
    dataset = tmp_path / "dataset"
    shutil.copytree(default_data, dataset)
    damage(dataset)
    with pytest.raises(UserError, match=r"The dataset .*dataset .*copy or prepare it again\.$"):
        train(tiny_training_config(dataset), tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("task", "dehaze", "denoise, dejpeg, sr"),
        ("steps", 0, "at least 1"),
        ("levels.high", 300.0, "from 0 to 100"),
        ("levels.low", 95.0, "not be above"),
        ("compute_dtype", "float16", "bfloat16"),
        ("level_devices", 2, "level_devices is 2"),
        ("levels.fixed", (15.0, 101.0), "from 0 to 100"),
        ("optimizer.schedule", "linear", "cosine, halfway, constant"),
        ("network.name", "resnet", "choose one of residual"),
        ("data.dataset", "nowhere", "no dataset"),
        ("data.crop_size", 500, "--minimum 500"),
        ("seed", -1, "seed is -1"),
        ("ema_decay", float("nan"), "ema_decay is nan"),
        ("optimizer.learning_rate", -1.0, "learning_rate is -1"),
        ("optimizer.clip_norm", -1.0, "clip_norm is -1"),
        ("network.channels", 0, "channels is 0"),
        ("network.colours", 2, "choose 3 or 1"),
        ("levels.weighting", "heavy", "choose one of equal, relative"),
        ("loss", "huber", "choose one of charbonnier, l1, l2"),
        (("remat", "level_form"), (True, "vmap"), "leave config.level_form at unrolled"),
        ("generated", "(", "not a regular expression"),
        ("features.degree", 0, "give 1 to 10"),
        ("features.degree", 40, "give 1 to 10"),
        ("validation.levels", (), "validation.levels is empty"),
        ("validation.crop_size", 0, "validation.crop_size is 0"),
        ("levels.normalisation", "unit", "per_hundred"),
        ("levels.normalisation", "scale_loss", "is not finite for some noise sigma"),
        (("levels.origin", "levels.far"), (10.0, 15.0), "reaches 18 for some noise sigma"),
        ("features.levels", (20.0, 300.0), "from 0 to 100"),
        ("network.init_gain", float("nan"), "init_gain is nan"),
        ("network.init_gain", 0.0, "init_gain is 0"),
        ("network.centre", float("nan"), "centre is nan"),
        ("ema_decay", 1.0, "ema_decay is 1.0; it must be at least 0 and below 1"),
        ("optimizer.b1", 1.0, "b1 is 1.0; it must be at least 0 and below 1"),
        ("levels.low", -1.0, r"config\.levels\.low: The level -1 is out of range"),
        ("levels.origin", -5.0, r"config\.levels\.origin: The level -5 is out of range"),
        ("levels.far", 500.0, r"config\.levels\.far: The level 500 is out of range"),
        ("validation.levels", (5.0, 500.0), r"config\.validation\.levels: The level 500"),
        ("steps", None, "steps is None; give a value, such as"),
        ("levels.fixed", None, "levels.fixed is None; give a value"),
        ("stepz", 3, "a field stepz, which means nothing"),
        ("optimizer.learningrate", 1.0, "optimizer.learningrate, which means nothing"),
    ],
)
def test_mistakes_in_a_config_are_reported(field, value, message, default_data, tmp_path):
    config = tiny_training_config(default_data)
    config.features.name = "polynomial"
    fields = dict(zip(field, value, strict=True)) if isinstance(field, tuple) else {field: value}
    config.update_from_flattened_dict(fields)
    with pytest.raises(UserError, match=message):
        train(config, tmp_path, progress=False)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("levels.absent", (0.1, 0.5, "x"), "levels.absent is .*no number"),
        ("levels.absent", (0.1, 0.5, "nan"), "levels.absent is .*no number"),
        ("levels.power", (1.0, None, 1.0), "levels.power is .*no number"),
        ("network.channels", (64, "x", 128), "network.channels is .*no number"),
        ("network.channels", (64, 96.5, 128), "network.channels is .*whole numbers"),
        ("network.blocks", (2, 1.5, 1), "network.blocks is .*whole numbers"),
    ],
)
def test_items_of_tuples_in_a_config_are_checked(field, value, message):
    config = photo_recipe("unet")
    with config.ignore_type():
        config.update_from_flattened_dict({field: value})
    with pytest.raises(UserError, match=message):
        check_config(config)


def test_one_process_at_a_time_trains_in_a_workdir(default_data, tmp_path, monkeypatch, capsys):
    config = tiny_training_config(default_data)
    # A photograph alone is all for training.
    monkeypatch.setattr(loop, "has_split", lambda dataset, split: False)
    with alone_in(tmp_path):
        with pytest.raises(UserError, match="Another process trains in the workdir"):
            train(config, tmp_path, progress=False)
        assert not list(tmp_path.iterdir())
    config.loggers = ("no_such",)
    with pytest.raises(UserError, match="Unknown logger"):
        train(config, tmp_path, progress=False)
    assert not (tmp_path / "metrics.jsonl").exists()
    config.loggers = ()
    train(config, tmp_path)
    assert "has no held-out photographs, so nothing is validated" in capsys.readouterr().err
    assert "validation" not in (tmp_path / "metrics.jsonl").read_text()


def test_the_step_traces_once_and_learns(default_data):
    config = tiny_training_config(default_data)
    config.network.channels = 16
    model = make_model(model_config(config))
    config.optimizer.update({"warmup_steps": 0, "learning_rate": 5e-3})
    optimizer = make_optimizer(config.optimizer, 100)
    chex.clear_trace_counter()
    theta = model.init(jax.random.key(0))
    mesh, step, state = start_training(model, theta, optimizer, form=FORM)
    clean = np.random.default_rng(0).integers(0, 256, (2, 1, 1, 3)).astype(np.uint8)
    clean = np.broadcast_to(clean, (2, 16, 16, 3))
    losses = []
    for index in range(80):
        levels = np.float32([[20 + index / 20], [60]])
        ids = np.arange(2 * index, 2 * index + 2, dtype=np.int32)
        batch = place_batch(mesh, {"clean": clean, "ids": ids, "levels": levels}, FORM)
        state, values = step(state, batch)
        losses.append(float(values["loss"]))
    assert step._cache_size() == 1
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_muon_moves_biases_by_their_share_of_the_learning_rate():
    """Only biases have the reduced rate: other parameters of Adam have the full rate."""
    config = recipe("compact").optimizer
    config.update({"warmup_steps": 0, "schedule": "constant", "learning_rate": 1.0})
    config.update({"clip_norm": 0.0, "bias_rate": 0.25})
    optimizer = make_optimizer(config, 10)
    theta = {
        "generated": {"conv": {"kernel": jnp.zeros((2, 3, 3, 4, 8)), "bias": jnp.zeros((2, 8))}},
        "shared": {"head": {"bias": jnp.zeros(8)}},
        "features": {"scale": jnp.zeros(8)},
    }
    keys = iter(jax.random.split(jax.random.key(0), 4))
    gradient = jax.tree.map(lambda x: jax.random.normal(next(keys), x.shape), theta)
    updates, _ = optimizer.update(gradient, optimizer.init(theta), theta)
    rms = jax.tree.map(lambda x: float(jnp.sqrt(jnp.mean(x**2))), updates)
    whole = rms["features"]["scale"]
    assert rms["generated"]["conv"]["bias"] == pytest.approx(0.25 * whole, rel=1e-3)
    assert rms["shared"]["head"]["bias"] == pytest.approx(0.25 * whole, rel=1e-3)
    assert 0.1 < rms["generated"]["conv"]["kernel"] < 0.3


@pytest.mark.parametrize("loss", ["charbonnier", "l1", "l2"])
def test_relative_weights_make_levels_count_alike(loss, default_data):
    """The gradient is parallel to that of the mean logarithm of the levels' losses."""
    model = make_model(model_config(tiny_training_config(default_data)))
    theta = model.init(jax.random.key(0))
    clean = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.uint8)
    batch = {"clean": clean, "ids": np.arange(2, dtype=np.int32), "levels": np.float32([[5], [80]])}

    def log_loss(theta):
        target, degraded, _ = degrade_batch(jax.random.key(0), model.task, batch, FORM)
        error = model.restore_levels(theta, batch["levels"], degraded) - target
        cost = {
            "charbonnier": lambda x: (x**2 + 1e-6) ** 0.5 - 1e-3,
            "l1": jnp.abs,
            "l2": jnp.square,
        }[loss]
        means = jnp.mean(cost(error), axis=(1, 2, 3, 4))
        return jnp.mean(jnp.log(means + cost(1 / 255)))

    def gradient(weighting):
        return descent(model, theta, batch, form=FORM, loss=loss, weighting=weighting)

    (relative, metrics), (equal, others) = gradient("relative"), gradient("equal")
    flat, expected, plain = (
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])
        for tree in (relative, jax.grad(log_loss)(theta), equal)
    )
    scale = flat @ expected / (expected @ expected)
    np.testing.assert_allclose(flat, scale * expected, atol=1e-4 * np.abs(flat).max())
    cosine = plain @ expected / np.linalg.norm(plain) / np.linalg.norm(expected)
    assert cosine < 0.98, "equal weights point elsewhere"
    assert float(metrics["loss"]) == pytest.approx(float(others["loss"]), rel=1e-6)


@pytest.mark.parametrize("task", ["denoise", "deblur"])
def test_what_has_no_colour_is_degraded_without(task, photograph):
    colour = photograph[None, :16, :16]
    grey = np.repeat(colour[..., :1], 3, axis=-1)
    batch = {
        "clean": np.stack([colour, grey], axis=1),
        "levels": np.array([[2.0]], np.float32),
        "ids": np.array([[0, 1]], np.int32),
    }
    form = BatchForm(own_crops=True)
    _, degraded, _ = degrade_batch(jax.random.key(0), device_task(task), batch, form)
    of_colour, of_grey = degraded[0]
    assert not (of_colour == of_colour[..., :1]).all()
    chex.assert_trees_all_equal(of_grey, jax.numpy.repeat(of_grey[..., :1], 3, axis=-1))
    assert np.abs(of_grey - grey[0] / 255.0).max() > 1e-3


def test_schedules():
    config = recipe("compact").optimizer
    config.warmup_steps = 10
    cosine = make_schedule(config, 100)
    assert float(cosine(0)) == pytest.approx(config.learning_rate / 10)
    assert float(cosine(9)) == pytest.approx(config.learning_rate)
    assert float(cosine(100)) == pytest.approx(config.learning_rate * config.final_fraction)
    published = make_schedule(recipe("published").optimizer, 1000)
    assert float(published(499)) == pytest.approx(1e-4)
    assert float(published(501)) == pytest.approx(1e-5)


def test_parameter_average():
    assert float(ema_decay(jnp.array(0), 0.999)) == pytest.approx(0.1)
    assert float(ema_decay(jnp.array(10**6), 0.999)) == pytest.approx(0.999)
    assert float(ema_decay(jnp.array(5), 0.0)) == 0.0


def test_the_average_follows_the_parameters(default_data):
    model = make_model(model_config(tiny_training_config(default_data)))
    theta = model.init(jax.random.key(0))
    mesh, step, state = start_training(model, theta, optax.sgd(0.1), form=FORM, levels=1, crops=1)
    # As after many steps, when the average has its full decay and differs from the parameters.
    state = dataclasses.replace(
        state, step=jnp.int32(500), ema=jax.tree.map(lambda x: x + 1.0, state.theta)
    )
    state = jax.device_put(state, state_shardings(mesh, state, split=False))
    before = jax.device_get(state.ema)
    clean = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3)).astype(np.uint8)
    batch = {"clean": clean, "ids": np.int32([0]), "levels": np.float32([[30]])}
    after, _ = step(state, place_batch(mesh, batch, FORM))
    expected = jax.tree.map(lambda a, x: 0.9 * a + 0.1 * x, before, after.theta)
    chex.assert_trees_all_close(after.ema, expected, rtol=1e-5, atol=1e-6)


def test_load_ema_without_a_run(tmp_path):
    with pytest.raises(UserError, match="no complete checkpoint"):
        load_ema(tmp_path)
