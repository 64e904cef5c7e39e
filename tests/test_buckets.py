"""Runs, datasets, weights and reports in buckets, on servers of this machine that also fail."""

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import types

import chex
import jax
import pytest

from hypernet_jax import UserError, buckets, load_weights, save_weights, storage
from hypernet_jax.checkpoints import has_checkpoint, load_ema
from hypernet_jax.cli.main import main
from hypernet_jax.data.prepare import local_dataset, prepare_dataset
from hypernet_jax.evaluation.measure import evaluate
from hypernet_jax.evaluation.report import check_report, write_report
from hypernet_jax.mirror import CheckpointMirror, fetch_folder
from hypernet_jax.model import make_model, model_config
from hypernet_jax.storage import names_in, storage_path
from hypernet_jax.training.initial import initial_theta
from hypernet_jax.training.loop import train

from .bucket_servers import buckets_of_both_kinds, forget_connections
from .commands import refuse
from .conftest import REPOSITORY
from .models import RESTORER, tiny_config, tiny_theta, tiny_training_config

# Not imported yet: gcsfs reads the environment as it is.
for package in ("s3fs", "gcsfs", "moto", "flask", "gcp_storage_emulator"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

BOTH = pytest.mark.parametrize("scheme", ["s3", "gs"])


@pytest.fixture(scope="module")
def doors():
    """Doors to servers that hold a bucket named "bucket", by scheme; the environment says so."""
    with buckets_of_both_kinds() as opened:
        yield opened


@pytest.fixture
def door(doors, scheme, request):
    """The door of a scheme, which is open again afterwards; pauses are short."""
    import gcsfs.retry
    import s3fs.core

    hurried = types.SimpleNamespace(**vars(asyncio))
    hurried.sleep = lambda seconds: asyncio.sleep(seconds / 500)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "_PAUSES", (0.01,) * 4)
        patch.setattr(s3fs.core.S3FileSystem, "retries", 1)
        patch.setattr(gcsfs.retry, "asyncio", hurried)
        patch.setattr(s3fs.core, "asyncio", hurried)
        yield doors[scheme]
    doors[scheme].answer = lambda method, path: None


@pytest.fixture
def impatient(monkeypatch, failure):
    """Nobody waits long for an answer, or often, where none will come."""
    if failure != "silent":
        yield
        return
    import aiohttp
    import fsspec.config

    wait = aiohttp.ClientTimeout(total=10, sock_read=0.3)
    monkeypatch.setitem(fsspec.config.conf["gcs"], "requests_timeout", wait)
    monkeypatch.setitem(fsspec.config.conf["s3"], "config_kwargs", {"read_timeout": 0.3})
    # A busy machine may be slow with the answers that do come.
    monkeypatch.setattr(buckets, "_PAUSES", (0.01, 0.1, 0.2))
    forget_connections()
    yield
    forget_connections()


@pytest.fixture(scope="module")
def datasets(doors, photographs, tmp_path_factory):
    """Addresses, by scheme, of a dataset that `prepare` wrote to the buckets."""
    sources = tmp_path_factory.mktemp("sources")
    for name in ("coffee.png", "chelsea.png"):
        (sources / name).symlink_to(photographs / name)
    options = {"held_out": 1, "progress": False}
    for scheme in doors:
        address = f"{scheme}://bucket/data/set"
        prepare_dataset(sources, address, **options)
        with pytest.raises(UserError, match="already exists"):
            prepare_dataset(sources, address, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield {scheme: f"{scheme}://bucket/data/set" for scheme in doors}


@pytest.fixture(scope="module")
def whole(datasets, tmp_path_factory):
    """The final state of a run that nothing disturbs, on this machine."""
    workdir = tmp_path_factory.mktemp("whole")
    return train(config_of(datasets["s3"]), workdir, progress=False)


def config_of(dataset, **fields):
    config = tiny_training_config(dataset)
    config.checkpoint.every = 2
    config.update(fields)
    return config


def lines_in(workdir):
    """All metrics of a workdir in a store."""
    folder = storage_path(workdir) / "metrics"
    return [
        json.loads(line)
        for name in names_in(folder)
        for line in (folder / name).read_text().splitlines()
    ]


class Killed(BaseException):
    """What stands for the end of the process in one that goes on."""


def kill_after(writes, patch):
    """Lets so many files be written to stores, and then nothing more happens there."""
    from etils.epath import backend

    left = iter(range(writes))
    dead = []

    def wrapped(method, *, counts):
        def call(self, path, *args, **kwargs):
            remote = "://" in os.fspath(path)
            if remote and counts(args) and next(left, None) is None:
                dead.append(True)
            if remote and dead:
                raise Killed
            return method(self, path, *args, **kwargs)

        return call

    store = backend._FileSystemSpecBackend
    writing = lambda args: "w" in args[0]  # noqa: E731
    patch.setattr(store, "open", wrapped(store.open, counts=writing))
    for name in ("remove", "rmtree", "exists", "listdir"):
        patch.setattr(store, name, wrapped(getattr(store, name), counts=lambda args: False))


@BOTH
def test_a_run_that_dies_between_any_two_writes_ends_at_the_same_bits(
    scheme, door, datasets, whole, tmp_path
):
    workdir = f"{scheme}://bucket/dying"
    config = config_of(datasets[scheme])
    deaths = 0
    # Before the first checkpoint; among its files; among those of the next one.
    for writes in (1, 6, 31):
        with pytest.MonkeyPatch.context() as patch:
            kill_after(writes, patch)
            try:
                train(config, workdir, progress=False)
            except Killed:
                deaths += 1
        assert not list(tmp_path.iterdir())
    assert deaths == 3
    state = train(config, workdir, progress=False)
    chex.assert_trees_all_equal(jax.device_get(state), jax.device_get(whole))
    ema = load_ema(workdir)[1]
    chex.assert_trees_all_equal(ema, jax.device_get(whole.ema))
    steps = [line["step"] for line in lines_in(workdir) if "loss" in line]
    assert steps == [2, 4, 6]  # each once, though they were run more often
    assert len(names_in(storage_path(workdir) / "tensorboard")) >= 3
    assert names_in(storage_path(workdir) / "checkpoints") == ["2", "4", "6"]


_TRAIN = """
import sys
from tests.test_buckets import config_of, train
train(config_of(sys.argv[1]), sys.argv[2], progress=False)
"""


def test_a_process_killed_while_it_writes_resumes(doors, datasets, whole):
    """By SIGKILL in the middle of a checkpoint; benchmarks/preemption.py is the long version."""
    workdir = "s3://bucket/killed"
    process = subprocess.Popen(
        [sys.executable, "-c", _TRAIN, datasets["s3"], workdir],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'benchmarks'}"},
        stderr=subprocess.DEVNULL,
    )
    files = []

    def kill(method, path):
        if method == "PUT" and "killed/checkpoints/4/" in path:
            files.append(path)
            if len(files) >= 6:
                process.send_signal(signal.SIGKILL)
        return

    doors["s3"].answer = kill
    try:
        assert process.wait(timeout=300) == -signal.SIGKILL
    finally:
        process.kill()
        doors["s3"].answer = lambda method, path: None
    assert has_checkpoint(workdir) and len(files) >= 6
    state = train(config_of(datasets["s3"]), workdir, progress=False)
    chex.assert_trees_all_equal(jax.device_get(state), jax.device_get(whole))


@BOTH
def test_weights_and_reports_in_a_bucket(scheme, door, photographs, tmp_path, monkeypatch):
    address = f"{scheme}://bucket/weights/tiny.safetensors"
    theta = tiny_theta(tiny_config())
    save_weights(address, theta, tiny_config())
    chex.assert_trees_all_equal(load_weights(address)[1], theta)
    with pytest.raises(UserError, match="already exists"):
        save_weights(address, theta, tiny_config())
    with pytest.raises(UserError, match="There are no weights"):
        load_weights(address + "x")

    (tmp_path / "cat.png").symlink_to(photographs / "chelsea.png")
    results = evaluate(RESTORER, tmp_path, levels=(25,), progress=False)
    output = f"{scheme}://bucket/report"
    written = write_report(results, output)
    assert names_in(storage_path(output)) == sorted(path.name for path in written)
    assert json.loads(written[0].read_bytes())["rows"][0]["images"] == 1
    with pytest.raises(UserError, match="already exists"):
        check_report(output, overwrite=False)
    check_report(output, overwrite=True)


def test_a_trained_run_serves_weights_and_further_training(doors, datasets):
    workdir = "gs://bucket/served"
    config = config_of(datasets["gs"], steps=2)
    train(config, workdir, progress=False)
    weights = "s3://bucket/served.safetensors"
    main(["weights", workdir, "-o", weights])
    config.initial_weights = weights
    model = make_model(model_config(config))
    chex.assert_trees_all_equal(initial_theta(config, model), load_ema(workdir)[1])
    # The dataset was copied once.
    assert len(list(local_dataset(datasets["gs"]).parent.iterdir())) <= 2


def s3_error(status, code, message=None):
    text = message or code
    return status, f"<Error><Code>{code}</Code><Message>{text}</Message></Error>".encode()


def gs_error(status, message):
    return status, json.dumps({"error": {"code": status, "message": message}}).encode()


FAILURES = {
    "busy": (s3_error(503, "SlowDown"), gs_error(503, "backend error"), "could not be reached"),
    "lost": (0, 0, "could not be reached"),
    "silent": (0.6, 0.6, "could not be reached"),
    "refused": (
        s3_error(403, "AccessDenied"),
        gs_error(403, "x does not have storage.objects.create access"),
        "refuses .* credentials",
    ),
    "clock": (
        s3_error(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        ),
        gs_error(401, "Invalid JWT: Check your iat and exp values in the JWT claim."),
        "because this machine's clock is wrong .* set the clock",
    ),
    "missing": (
        s3_error(404, "NoSuchBucket"),
        gs_error(404, "The specified bucket does not exist."),
        "no bucket",
    ),
    "full": (
        s3_error(403, "QuotaExceeded"),
        gs_error(403, "The quota has been exceeded"),
        "no room or quota left",
    ),
}


@BOTH
@pytest.mark.parametrize("failure", FAILURES)
def test_a_failing_store_is_told_in_a_sentence(
    scheme, failure, door, datasets, impatient, tmp_path
):
    *answers, sentence = FAILURES[failure]
    answer = dict(zip(("s3", "gs"), answers, strict=True))[scheme]
    workdir = f"{scheme}://bucket/failing-{failure}"

    # At the start, before anything is trained.
    door.answer = lambda method, path: answer
    with pytest.raises(UserError, match=sentence) as told:
        train(config_of(datasets[scheme]), workdir, progress=False)
    assert "\n" not in str(told.value)

    # While the second checkpoint is written: the first one is whole and stays the last.
    door.answer = lambda method, path: None
    (tmp_path / "state").write_bytes(bytes(1000))
    mirror = CheckpointMirror(storage_path(workdir), keep=3)
    mirror.send(2, tmp_path, {}, ready=lambda: None)
    mirror.wait()
    door.answer = lambda method, path: answer if method in ("PUT", "POST") else None
    mirror.send(4, tmp_path, {"metrics/4.jsonl": b"{}"}, ready=lambda: None)
    with pytest.raises(UserError, match=sentence) as told:
        mirror.wait()
    assert str(told.value).endswith("; the last checkpoint: that of step 2.")
    assert "\n" not in str(told.value)
    door.answer = lambda method, path: None
    assert mirror.steps() == [2]
    mirror.close()


@pytest.mark.parametrize("scheme", ["s3"])
def test_a_run_ends_in_the_sentence_of_a_failed_checkpoint(scheme, door, datasets):
    workdir = "s3://bucket/filling"
    full = s3_error(403, "QuotaExceeded")
    door.answer = lambda method, path: full if "/checkpoints/4/" in path else None
    with pytest.raises(UserError, match=r"no room or quota left .* that of step 2\.$"):
        train(config_of(datasets["s3"]), workdir, progress=False)
    assert has_checkpoint(workdir)


@BOTH
def test_a_moment_of_failure_is_waited_out(scheme, door, datasets, whole):
    requests, failed = iter(range(10**6)), set()

    def now_and_then(method, path):
        # Not the same request again and again.
        if next(requests) % 5 == 2 and (method, path) not in failed:
            failed.add((method, path))
            return s3_error(503, "SlowDown") if scheme == "s3" else gs_error(503, "busy")
        return None

    door.answer = now_and_then
    state = train(config_of(datasets[scheme]), f"{scheme}://bucket/moments", progress=False)
    chex.assert_trees_all_equal(jax.device_get(state), jax.device_get(whole))


def test_missing_credentials_and_buckets(doors, monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("HYPERNET_JAX_STORE_RETRIES", "0")
    told = refuse(capsys, "weights", "s3://nowhere/run", "-o", tmp_path / "x.safetensors")
    assert "no complete checkpoint in s3://nowhere/run" in told
    told = refuse(capsys, "prepare", tmp_path, "-o", "s3://nowhere/data")
    assert "no bucket" in told
    told = refuse(capsys, "prepare", tmp_path, "-o", "s3://")
    assert "names no bucket" in told
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    forget_connections()
    try:
        told = refuse(capsys, "prepare", tmp_path, "-o", "s3://bucket/data")
        assert "credentials" in told
    finally:
        forget_connections()


def test_the_command_tells_one_line_and_no_traceback(doors):
    doors["gs"].answer = lambda method, path: gs_error(401, "Anonymous caller does not have access")
    command = [
        sys.executable,
        "-m",
        "hypernet_jax.cli.main",
        "weights",
        "gs://bucket/run",
        "-o",
        "x.safetensors",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    doors["gs"].answer = lambda method, path: None
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "refuses gs://bucket/run" in done.stderr and "credentials" in done.stderr


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(buckets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"need the package gcsfs; .*hypernet-jax\[gcs\]"):
        storage.storage_path("gs://bucket/run")


def test_what_is_not_whole_is_no_checkpoint(doors, datasets, tmp_path):
    workdir = "s3://bucket/damaged"
    config = config_of(datasets["s3"], steps=4)
    train(config, workdir, progress=False)
    folder = storage_path(workdir) / "checkpoints"
    # As a user copies it, the mark with it, a checkpoint serves in a local workdir.
    copied = tmp_path / "checkpoints" / "4"
    fetch_folder(folder / "4", copied)
    (copied / "whole.json").write_bytes((folder / "4" / "whole.json").read_bytes())
    chex.assert_trees_all_equal(load_ema(tmp_path)[1], load_ema(workdir)[1])
    whole_before = tmp_path / "before"
    fetch_folder(folder / "2", whole_before / "checkpoints" / "2")
    (folder / "4" / "config" / "metadata").write_bytes(b"short")
    with pytest.warns(UserWarning, match="is damaged"):
        assert int(train(config, workdir, progress=False).step) == 4
    # A file of the right size that Orbax cannot read.
    mark = json.loads((folder / "4" / "whole.json").read_bytes())
    for name, size in mark["files"].items():
        if name.startswith("state/"):
            (folder / "4" / name).write_bytes(bytes(size))
    with pytest.warns(UserWarning, match="s3://bucket/damaged/checkpoints/4 is damaged"):
        found = load_ema(workdir)[1]
    chex.assert_trees_all_equal(found, load_ema(whole_before)[1])
    with pytest.warns(UserWarning, match="is damaged"):
        assert int(train(config, workdir, progress=False).step) == 4
    chex.assert_trees_all_equal(load_ema(tmp_path)[1], load_ema(workdir)[1])
    (folder / "4" / "whole.json").unlink()
    (folder / "2" / "whole.json").unlink()
    assert not has_checkpoint(workdir)
