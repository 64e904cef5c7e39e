"""Loggers beside metrics.jsonl and TensorBoard."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import warnings

import pytest

from hypernet_jax import UserError
from hypernet_jax.training import loggers
from hypernet_jax.training.loop import train

from .models import tiny_training_config


class Kept:
    """Keeps what it is given."""

    def __init__(self, workdir, config, *, resumed):
        self.workdir, self.config, self.resumed = workdir, config, resumed
        self.lines, self.closed = [], False

    def write(self, step, values):
        self.lines.append({"step": step, **values})

    def close(self):
        self.closed = True


@pytest.fixture
def kept(monkeypatch):
    monkeypatch.setattr(loggers, "_LOGGERS", dict(loggers._LOGGERS))
    made = []

    def make(*arguments, **options):
        made.append(Kept(*arguments, **options))
        return made[-1]

    loggers.register_logger("kept", make)
    with pytest.raises(UserError, match="already"):
        loggers.register_logger("kept", make)
    return made


def test_a_logger_gets_what_the_files_get(kept, default_data, tmp_path):
    config = tiny_training_config(default_data)
    config.loggers, config.steps = ("kept",), 3
    train(config, tmp_path, progress=False)
    (first,) = kept
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert first.lines == written and first.closed
    assert first.workdir == str(tmp_path) and not first.resumed
    assert first.config["optimizer.name"] == "muon" and first.config["steps"] == 3


def test_loggers_do_not_change_a_run(kept, default_data, tmp_path):
    config = tiny_training_config(default_data)
    train(config, tmp_path, progress=False)
    config.loggers = ("kept",)
    state = train(config, tmp_path, progress=False)
    assert int(state.step) == 6 and kept[0].resumed and not kept[0].lines


def test_an_unknown_logger_is_reported(default_data, tmp_path):
    config = tiny_training_config(default_data)
    config.loggers = ("fax",)
    with pytest.raises(UserError, match="choose from mlflow"):
        train(config, tmp_path, progress=False)


def test_names_for_mlflow():
    found = loggers.mlflow_name("validation/psnr_noise=15,jpeg=60,blur=0.5")
    assert found == "validation/psnr_noise_15_jpeg_60_blur_0.5"
    assert loggers.mlflow_name("validation/psnr_15") == "validation/psnr_15"


def test_mlflow_that_is_missing_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match=r"pip install 'hypernet-jax\[mlflow\]'"):
        loggers.make_loggers(("mlflow",), "run", {}, resumed=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """An MLflow server on this machine."""
    pytest.importorskip("mlflow.server", reason="needs the package mlflow, with its server")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("mlflow")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder / 'runs.db'}"),
        ],
        cwd=folder,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).read()
            break
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    yield address
    process.terminate()
    process.wait(30)


def test_a_run_in_mlflow(server, default_data, tmp_path, monkeypatch):
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tests")
    config = tiny_training_config(default_data)
    config.loggers = ("mlflow",)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="MLflow")
        train(config, tmp_path, progress=False)
    train(config, tmp_path, progress=False)  # resumes, and adds nothing
    client = mlflow.MlflowClient(server)
    experiment = client.get_experiment_by_name("tests").experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.status == "FINISHED"
    assert run.data.params["optimizer.name"] == "muon" and run.data.params["steps"] == "6"
    written = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for name in ("loss", "validation/psnr", "tflops_per_second"):
        found = [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        assert sorted(found) == [(line["step"], line[name]) for line in written if name in line]


def test_a_server_that_does_not_answer_is_reported(monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match="start its server"):
        loggers.make_loggers(("mlflow",), "run", {}, resumed=False)
