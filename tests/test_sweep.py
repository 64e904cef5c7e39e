"""Sweeps: a config trained several times, resumable, with a table."""

import json
import shutil
from pathlib import Path

import jax
import pytest

import hypernet_jax
from hypernet_jax import UserError
from hypernet_jax.errors import DEVICE_FULL
from hypernet_jax.training import sweep
from hypernet_jax.training.sweep import load_sweep, run_sweep

from .models import tiny_training_config


def written(path, **content):
    path.write_text(json.dumps(content))
    return path


def test_every_combination_is_trained_once_and_tabulated(default_data, tmp_path, monkeypatch):
    file = written(
        tmp_path / "sweep.json",
        config="tiny",
        set={"steps": 3},
        vary={"optimizer.learning_rate": [1e-3, float("1e30")], "levels.count": [2]},
    )
    asked = []
    own = sweep.train
    monkeypatch.setattr(
        sweep, "train", lambda *given, **options: asked.append(1) or own(*given, **options)
    )

    def load(name):
        assert name == "tiny"
        return tiny_training_config(default_data)

    text, failed = run_sweep(file, tmp_path / "runs", load=load)
    assert len(asked) == 2 and failed == 1
    header, _, first, second = text.splitlines()
    assert "optimizer.learning_rate | levels.count | steps | best" in header
    # The best first; a run that fails has its reason, and stops no other.
    assert first.startswith("| 0.001 | 2 | 3 | ") and float(first.split("|")[4]) > 5
    assert second.startswith("| 1e+30 | 2 |") and "config.optimizer.learning_rate" in second
    assert (tmp_path / "runs/table.md").read_text() == text
    lines = (tmp_path / "runs/learning_rate=0.001,count=2/metrics.jsonl").read_text()
    assert run_sweep(file, tmp_path / "runs", load=load)[0].splitlines()[2] == first
    assert (tmp_path / "runs/learning_rate=0.001,count=2/metrics.jsonl").read_text() == lines


def test_a_sweep_that_is_asked_to_stop_starts_no_other_run(tmp_path, monkeypatch):
    # Even if the run ends before it looks.
    monkeypatch.setattr(sweep, "train", lambda config, workdir, stop: stop.set())
    file = written(tmp_path / "s.json", config="x", vary={"seed": [1, 2, 3]})
    text, failed = run_sweep(file, tmp_path / "runs", load=lambda name: tiny_training_config(""))
    assert len(text.splitlines()) == 3 and failed == 0


def test_a_failed_run_comes_last_with_the_step_it_reached(tmp_path, monkeypatch):
    def train(config, workdir, stop):
        lines = [{"step": 400, "validation/psnr": 31 - config.seed}, {"step": 600, "loss": 1}]
        workdir.mkdir(parents=True)
        (workdir / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
        if config.seed == 2:  # a kill cut a line short
            with (workdir / "metrics.jsonl").open("a") as file:
                file.write('\n{"step": 700, "lo')
        if config.seed == 1:
            raise UserError("The loss is not finite.")
        if config.seed == 4:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory.")

    monkeypatch.setattr(sweep, "train", train)
    file = written(tmp_path / "s.json", config="x", vary={"seed": [1, 4, 2, 3]})
    text, failed = run_sweep(file, tmp_path / "runs", load=lambda name: tiny_training_config(""))
    assert text.splitlines()[2:] == [
        "| 2 | 600 | 29.00 |",
        "| 3 | 600 | 28.00 |",
        "| 1 | 600 | The loss is not finite. |",
        f"| 4 | 600 | {DEVICE_FULL} |",
    ]
    assert failed == 2
    # The other processes are still in the run that failed in one of them.
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="not finite"):
        run_sweep(file, tmp_path / "again", load=lambda name: tiny_training_config(""))


def test_a_sweep_is_checked_before_its_first_run(tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(sweep, "train", lambda config, workdir, stop: trained.append(config))

    def run(**content):
        file = written(tmp_path / "s.json", config="x", **content)
        return run_sweep(file, tmp_path / "runs", load=lambda name: tiny_training_config(""))

    with pytest.raises(UserError, match=r"does not fit its config .*channels"):
        run(vary={"network.channels": [4, "6"]})
    assert not trained
    run(vary={"network.channels": [4]}, set={"steps": 3})
    # More values, and settings without influence on the result, go on; other ones do not.
    run(vary={"network.channels": [4, 6]}, set={"steps": 3, "log_every": 2})
    kept = (tmp_path / "runs/table.md").read_text()
    with pytest.raises(UserError, match=r"another config \(config\.steps was 3 and is now 4\)"):
        run(vary={"network.channels": [4]}, set={"steps": 4})
    assert (tmp_path / "runs/table.md").read_text() == kept and len(trained) == 3


def test_what_a_sweep_learns_from_may_move_but_not_change(default_data, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "train", lambda config, workdir, stop: None)
    file = written(tmp_path / "s.json", config="x", vary={"seed": [1]})
    pretrained = Path(hypernet_jax.__file__).parent / "pretrained"

    def run(dataset, teacher="denoise", *, share=0.7, runs="runs"):
        config = tiny_training_config(str(dataset))
        config.distillation.teachers, config.distillation.share = (str(teacher),), share
        return run_sweep(file, tmp_path / runs, load=lambda name: config)

    # As in a single run, a teacher without a share is not read.
    run(default_data, tmp_path / "none.safetensors", share=0.0, runs="alone")

    run(default_data)
    moved = shutil.copytree(default_data, tmp_path / "moved")
    run(moved, shutil.copy(pretrained / "denoise.safetensors", tmp_path / "teacher.safetensors"))
    with pytest.raises(UserError, match=r"another config \(config\.distillation\.teachers was"):
        run(moved, "sr")
    description = json.loads((moved / "dataset_info.json").read_text())
    description["splits"][0]["numBytes"] = "1"
    (moved / "dataset_info.json").write_text(json.dumps(description))
    with pytest.raises(UserError, match=r"another config \(config\.data\.dataset was"):
        run(moved)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"vary": {"seed": [1]}}, "must have the fields"),
        ({"config": "x", "vary": {"seed": [1]}, "more": 1}, "must have the fields"),
        ({"config": "x"}, "a list of values"),
        ({"config": "x", "vary": {"seed": 3}}, "a list of values"),
        ({"config": "x", "vary": {"seed": [3, "3"]}}, "share a folder"),
        ({"config": "x", "vary": ["seed"]}, "a list of values"),
        ({"config": "x", "set": [1], "vary": {"seed": [1]}}, "a value for each field"),
        ({"config": "x", "vary": {"no.such": [1]}}, "does not fit its config"),
        ({"config": "x", "vary": {"no_such": [1]}}, "does not fit its config"),
        ({"config": "x", "vary": {"optimizer.learningrate": [1]}}, "does not fit its config"),
    ],
)
def test_mistakes_in_a_sweep_are_reported(content, message, tmp_path):
    file = written(tmp_path / "sweep.json", **content)
    with pytest.raises(UserError, match=message):
        run_sweep(file, tmp_path / "runs", load=lambda name: tiny_training_config(""))


def test_a_sweep_that_is_no_json_is_reported(tmp_path):
    (tmp_path / "sweep.json").write_text("{")
    for path in (tmp_path / "sweep.json", tmp_path / "missing.json"):
        with pytest.raises(UserError, match="give a JSON file"):
            load_sweep(path)
