"""Starting JAX and stopping commands: environments, forks, signals, storage URLs."""

import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image

from hypernet_jax import Restorer, UserError, make_model, runtime
from hypernet_jax.cli.main import main
from hypernet_jax.files import local_path, made_folder, temporary_folder, write_atomically
from hypernet_jax.images.folders import find_images
from hypernet_jax.photographs.restoring import restore_file

from .models import RESTORER, photo_config, random_theta, tiny_config, tiny_theta


def run(*command, **environment):
    return subprocess.run(
        [sys.executable, "-m", "hypernet_jax.cli.main", *map(str, command)],
        capture_output=True, text=True, env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("variable", "value"), [("JAX_PLATFORMS", "cuda"), ("JAX_ENABLE_X64", "maybe")]
)
def test_an_environment_that_jax_refuses_is_named(variable, value):
    done = run("info", "--weights", "deblur", **{variable: value})
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert variable in done.stderr


@pytest.mark.parametrize("error", [RuntimeError("Unable to initialize"), AssertionError()])
@pytest.mark.parametrize("asked", ["cuda", None])
def test_devices_that_are_not_there(error, asked, monkeypatch):
    def devices():
        raise error

    monkeypatch.setattr(runtime, "_started", False)
    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    if asked:
        monkeypatch.setenv("JAX_PLATFORMS", asked)
    with pytest.raises(UserError, match="cpu") as caught:
        Restorer(RESTORER.model, tiny_theta(tiny_config()))
    assert "JAX_PLATFORMS" in str(caught.value) and "\n" not in str(caught.value)


def test_too_few_addresses_are_reported(monkeypatch):
    import resource

    monkeypatch.setattr(runtime, "_started", False)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (10**9, 10**9))
    with pytest.raises(UserError, match="limited to 1000 MB of address space"):
        runtime.start_jax()


def test_strict_flags_of_other_code_are_set_aside(photograph):
    image = photograph[:9, :9]
    # Levels on a line, and others, have different programs.
    rows, columns = np.mgrid[:9, :9].astype(np.float32)
    maps = [rows[..., None], np.stack([rows, 100 - columns, columns % 2], axis=-1)]
    photo = make_model(photo_config())
    theta_of_photo = random_theta(photo)
    parts = Restorer(photo, theta_of_photo, backend="jax")
    expected = [
        RESTORER.restore(image, level=20),
        RESTORER.restore(image, level=maps[0]),
        parts.restore(image, level=maps[1]),
    ]
    model, theta = RESTORER.model, tiny_theta(tiny_config())
    strict = {
        "jax_numpy_rank_promotion": "raise",
        "jax_numpy_dtype_promotion": "strict",
        "jax_transfer_guard": "disallow",
    }
    before = {name: getattr(jax.config, name) for name in strict}
    try:
        for name, value in strict.items():
            jax.config.update(name, value)
        plain = Restorer(model, theta)
        parts = Restorer(photo, theta_of_photo, backend="jax")
        restored = [
            plain.restore(image, level=20),
            plain.restore(image, level=maps[0]),
            parts.restore(image, level=maps[1]),
        ]
    finally:
        for name, value in before.items():
            jax.config.update(name, value or "allow")
    for got, wanted in zip(restored, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
def test_a_forked_process_is_refused_in_a_sentence():
    runtime.start_jax()
    child = os.fork()
    if child == 0:
        try:
            RESTORER.restore(np.zeros((4, 4, 3), np.uint8), level=5)
        except UserError as error:
            os._exit(0 if "spawn" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    runtime.start_jax()  # the parent continues


ADDRESS = "gs://bucket/run"


@pytest.mark.parametrize(
    "call",
    [
        lambda: local_path(ADDRESS),
        lambda: find_images(ADDRESS),
        lambda: restore_file(RESTORER, ADDRESS, "out.png", level=5),
        lambda: restore_file(RESTORER, "in.png", ADDRESS, level=5),
        lambda: write_atomically(local_path("x").parent / ADDRESS, b""),
    ],
)
def test_addresses_are_no_paths(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"is an address \(gs:\)"):
        call()
    assert list(tmp_path.iterdir()) == []


def test_paths_are_not_taken_for_addresses(tmp_path):
    for path in ("C:/a", "a:b", tmp_path, "x/gs:/y"):
        local_path(path)
    with pytest.raises(UserError, match="no path"):
        local_path(3)


@pytest.mark.parametrize("command", ["restore", "info", "export", "demo"])
def test_no_command_makes_a_folder_of_an_address(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (9, 9)).save("in.png")
    arguments = {
        "restore": ["in.png", "--task", "deblur", "--level", "1", "-o", ADDRESS],
        "info": ["--config", ADDRESS],
        "export": ["--task", "deblur", "--format", "safetensors", "-o", ADDRESS],
        "demo": ["-o", ADDRESS],
    }[command]
    with pytest.raises(SystemExit) as stop:
        main([command, *arguments])
    message = capsys.readouterr().err
    assert stop.value.code == 2 and message.count("\n") == 1 and "is an address" in message
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_ctrl_c_stops_in_the_middle_and_leaves_nothing(tmp_path):
    Image.fromarray(np.zeros((3000, 3000, 3), np.uint8)).save(tmp_path / "in.png")
    command = ["restore", tmp_path / "in.png", "-o", "-", "--task", "deblur", "--level", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "hypernet_jax.cli.main", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        # Children inherit ignored signals from the caller of pytest.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while process.poll() is None and not list(tmp_path.glob("hypernet-jax-*")):
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors == "Stopped.\n"
    assert time.monotonic() - start < 30  # without finishing the work
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_temporary_folders_go_with_what_is_in_them():
    with temporary_folder() as folder:
        (folder / "a").write_text("")
    assert not folder.exists()


def test_a_signal_does_not_wait_for_compiled_code(tmp_path):
    """Nor does one that a forked child gets end its parent; empty folders go as well."""
    code = (
        "import hashlib, os, signal, sys, time\n"
        "from hypernet_jax.cli.interrupts import stopping_at_once\n"
        "from hypernet_jax.files import made_folder\n"
        "with stopping_at_once(), made_folder(sys.argv[1]):\n"
        "    running, runs = os.pipe()\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os.write(runs, b'1')\n"
        "        time.sleep(60)\n"
        "        os._exit(0)\n"
        "    os.read(running, 1)\n"
        "    os.kill(child, signal.SIGTERM)\n"
        "    os.waitpid(child, 0)\n"
        "    time.sleep(0.2)\n"
        "    print('computing', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)\n"
    )
    new = tmp_path / "new" / "folder"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(new)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "computing\n" and new.is_dir()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 130
    finally:
        process.kill()
    assert not new.parent.exists()


def test_one_thread_ends_the_process_however_many_signals_come():
    code = (
        "import os, time\n"
        "from hypernet_jax.cli import interrupts\n"
        "end = os._exit\n"
        "os._exit = lambda code: (time.sleep(0.5), end(code))\n"
        "with interrupts.stopping_at_once():\n"
        "    print('working', flush=True)\n"
        "    while True:\n"
        "        time.sleep(0.01)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "working\n"
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "Stopped.\n")


@pytest.mark.parametrize("signals", [1, 3])
def test_a_signal_ends_a_process_whose_output_nobody_reads(signals):
    code = (
        "from hypernet_jax.cli.interrupts import stopping_at_once\n"
        "with stopping_at_once():\n"
        "    while True:\n"
        "        print(3000 * 'x')\n"
    )
    # Otherwise standard output has no lock that the writing thread holds.
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONUNBUFFERED"}
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        try:
            assert process.stdout.read(3000) == b"x" * 3000
            time.sleep(0.3)  # until the pipe is full
            for _ in range(signals):
                process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 130
            assert process.stderr.read() == b"Stopped.\n"
        finally:
            process.kill()
            process.stdout.close()
            process.stderr.close()


def test_no_file_appears_in_a_process_that_ends(tmp_path):
    """Nor stays: threads that write wait from then on."""
    code = (
        "import os, sys, threading, time\n"
        "from pathlib import Path\n"
        "from hypernet_jax import files\n"
        "folder, ending = Path(sys.argv[1]), threading.Event()\n"
        "begun = [threading.Event() for _ in range(4)]\n"
        "def work(number):\n"
        "    for count in range(10**6):\n"
        "        with files.made_folder(folder / f'{number}'), files.temporary_folder(folder):\n"
        "            path = folder / f'{number}-{count}'\n"
        "            files.write_atomically(path, b'1', lasting=False)\n"
        "            assert not ending.is_set(), 'written'\n"
        "            path.unlink()\n"
        "        begun[number].set()\n"
        "for number in range(4):\n"
        "    threading.Thread(target=work, args=(number,), daemon=True).start()\n"
        "for each in begun:\n"
        "    each.wait()\n"
        "files.remove_partial_files()\n"
        "time.sleep(0.2)\n"
        "ending.set()\n"
        "left = [path for path in folder.iterdir() if not path.is_file() or '-' not in path.name]\n"
        "print(left, flush=True)\n"
        "os._exit(0)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (process.stdout, process.stderr) == ("[]\n", "")


def test_only_folders_that_were_made_are_removed_again(tmp_path):
    (tmp_path / "own").mkdir()
    for path in ("own", "own/new/inner", "other/../own"):
        with made_folder(tmp_path / path) as folder:
            assert folder.is_dir()
    assert [path.name for path in tmp_path.rglob("*")] == ["own"]
    with made_folder(tmp_path / "a" / "b"):
        (tmp_path / "a" / "kept").touch()
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"kept"}
    with pytest.raises(UserError, match="is a file"), made_folder(tmp_path / "a" / "kept"):
        raise AssertionError("it is no folder")
