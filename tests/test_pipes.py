"""Standard input and output, names given twice, and folders with dots."""

import io
import json
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from hypernet_jax import save_weights
from hypernet_jax.cli.main import main

from .commands import refuse
from .models import tiny_config, tiny_theta


@pytest.fixture
def command(tmp_path, monkeypatch, photograph):
    """A restore command in a folder with two photographs."""
    weights = tmp_path / "weights" / "tiny.safetensors"
    weights.parent.mkdir()
    save_weights(weights, tiny_theta(tiny_config()), tiny_config())
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("a.png", "b.png"):
        Image.fromarray(photograph[:9, :12]).save(name)
    return ["restore", "--weights", str(weights), "--level", "9"]


@pytest.fixture
def pipes(monkeypatch):
    """Binary streams in place of standard input and output."""
    out = io.TextIOWrapper(io.BytesIO(), write_through=True)

    def connect(content: bytes):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        monkeypatch.setattr(sys, "stdout", out)
        return out.buffer

    return connect


def test_standard_input_to_standard_output(command, pipes, tmp_path, capsys):
    expected = [*command, "a.png", "-o", "expected.png"]
    assert main(expected) == 0
    out = pipes(Path("a.png").read_bytes())
    assert main([*command, "-", "-o", "-"]) == 0
    found = np.asarray(Image.open(io.BytesIO(out.getvalue())))
    np.testing.assert_array_equal(found, np.asarray(Image.open("expected.png")))
    assert "12x9" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "tiff"])
def test_a_file_to_standard_output_in_any_format(form, command, pipes):
    out = pipes(b"")
    assert main([*command, "a.png", "-o", "-", "--format", form]) == 0
    assert Image.open(io.BytesIO(out.getvalue())).format == form.upper()


def test_standard_input_to_a_file(command, pipes, capsys):
    pipes(Path("a.png").read_bytes())
    assert main([*command, "-", "-o", "out.jpg"]) == 0
    assert Image.open("out.jpg").size == (12, 9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-", "a.png", "-o", "-"], "takes one image"),
        (["-", "-o", "folder"], "needs a file as output"),
        (["a.png", "-o", "-", "--compare"], "--compare"),
        (["-", "-o", "-"], "not an image"),
    ],
)
def test_what_pipes_cannot_do_is_reported(arguments, words, command, pipes, capsys):
    out = pipes(b"no image")
    with pytest.raises(SystemExit) as stop:
        main([*command, *arguments])
    message = capsys.readouterr().err
    assert stop.value.code == 2 and words in message and message.count("\n") == 1
    assert out.getvalue() == b""


def test_a_terminal_gets_no_image(command, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    with pytest.raises(SystemExit):
        main([*command, "a.png", "-o", "-"])
    assert "A terminal cannot show" in capsys.readouterr().err


def test_what_is_named_twice_is_restored_once(command, tmp_path, capsys):
    names = ["a.png", "b.png", "./a.png", "../here/b.png", ".", str(tmp_path / "here" / "a.png")]
    assert main([*command, *names, "-o", str(tmp_path / "out")]) == 0
    assert "2 files: 2 restored" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a.png", "b.png"}


@pytest.mark.parametrize("output", ["dir.v2/", "dir.png/"])
def test_a_folder_whose_name_has_a_dot(output, command, tmp_path):
    assert main([*command, "a.png", "-o", output]) == 0
    assert Image.open(f"{output}a.png").size == (12, 9)
    assert main([*command, "a.png", "b.png", "-o", "dir.v3"]) == 0
    assert Image.open("dir.v3/b.png").size == (12, 9)


def test_a_report_names_the_pipes(command, pipes):
    pipes(Path("a.png").read_bytes())
    assert main([*command, "-", "-o", "-", "--report", "report.json"]) == 0
    (row,) = json.loads(Path("report.json").read_text())["files"]
    assert (row["input"], row["output"]) == ("standard input", "standard output")


def test_the_format_of_standard_input_is_not_kept(command, pipes, capsys):
    pipes(Path("a.png").read_bytes())
    assert "name one with --format" in refuse(capsys, *command, "-", "-o", "-", "--format", "same")


@pytest.fixture
def named_pipe():
    """Makes a pipe that gives a file's content once."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no named pipes on this system")
    writers = []

    def make(content: bytes) -> str:
        os.mkfifo("pipe")
        writers.append(threading.Thread(target=Path("pipe").write_bytes, args=[content]))
        writers[-1].start()
        return "pipe"

    yield make
    for writer in writers:
        writer.join(timeout=60)


def test_a_named_pipe_is_read_once(command, named_pipe, capsys):
    assert main([*command, "a.png", "-o", "expected.png"]) == 0
    pipe = named_pipe(Path("a.png").read_bytes())
    assert main([*command, pipe, "-o", "out.png", "--report", "report.json"]) == 0
    found, expected = (np.asarray(Image.open(name)) for name in ("out.png", "expected.png"))
    np.testing.assert_array_equal(found, expected)
    (row,) = json.loads(Path("report.json").read_text())["files"]
    assert (row["input"], row["output"]) == ("pipe", "out.png")


def test_an_error_names_the_pipe(command, named_pipe, capsys):
    pipe = named_pipe(b"no image")
    assert "pipe is not an image" in refuse(capsys, *command, pipe, "-o", "out.png")


def test_pipes_are_refused_where_photographs_are_read_twice(command, capsys):
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no named pipes on this system")
    os.mkfifo("pipe")
    assert "takes one image" in refuse(capsys, *command, "pipe", "a.png", "-o", "folder")
    assert "pipe is a pipe; save" in refuse(capsys, "estimate", "pipe", "-o", "levels.csv")
