"""The export for darktable: its interface, and seamless tiles."""

import json
import sys

import numpy as np
import onnxruntime
import pytest

from hypernet_jax import Restorer, make_model, save_weights
from hypernet_jax.cli.main import main
from hypernet_jax.interchange.darktable import OVERLAP, darktable_config

from .commands import refuse
from .darktable_tiles import tiled
from .models import photo_config, random_theta, tiny_config, tiny_theta


def exported(folder):
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    shapes = {each.name: each.shape for each in session.get_inputs()}
    assert shapes == {"input": [1, 3, "height", "width"], "sigma": [1, 1, "height", "width"]}
    assert [(each.name, each.shape) for each in session.get_outputs()] == [
        ("output", [1, 3, "height", "width"])
    ]

    def run(image, sigma):
        planes = image.transpose(2, 0, 1)[None].astype(np.float32)
        level = np.full((1, 1, *image.shape[:2]), sigma / 255, np.float32)
        return session.run(None, {"input": planes, "sigma": level})[0][0].transpose(1, 2, 0)

    return run


@pytest.mark.parametrize("side", [192, 320])
def test_tiles_come_together_without_a_seam(side, photograph, tmp_path, capsys):
    folder = tmp_path / "models" / "denoise"
    main(["export", "--task", "denoise", "--format", "darktable", "-o", str(folder)])
    assert "config.json and model.onnx" in capsys.readouterr().out
    run = exported(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["id"].startswith("denoise-") and config["num_inputs"] == 2
    # Required by `dtai validate`.
    assert {"id", "name", "description", "task", "backend", "version"} <= config.keys()
    noise = np.random.default_rng(0).normal(0, 25, (180, 200, 3))
    noisy = np.clip(np.round(photograph[:180, :200] + noise), 0, 255) / np.float32(255)
    expected = Restorer.from_pretrained("denoise").restore(noisy, level=25)
    got = tiled(run, noisy, 25, side)
    # Near the borders results differ: darktable mirrors the image, and the network pads with zeros.
    near = np.s_[OVERLAP:-OVERLAP, OVERLAP:-OVERLAP]
    assert np.abs(got - expected)[near].max() < 1 / 255
    assert np.abs(got - expected).mean() < 0.5 / 255


def test_other_parts_of_a_level_are_neutral(photograph, tmp_path):
    config = photo_config()
    model = make_model(config)
    save_weights(tmp_path / "w.safetensors", random_theta(model), config)
    command = ["export", "--weights", tmp_path / "w.safetensors", "--format", "darktable"]
    main([*map(str, command), "-o", str(tmp_path / "photo")])
    image = photograph[:64, :96] / np.float32(255)
    live = Restorer.from_pretrained(tmp_path / "w.safetensors")
    got = exported(tmp_path / "photo")(image, 20)
    np.testing.assert_allclose(got, live.restore(image, level={"noise": 20}), atol=1e-4)


def test_weights_of_different_names_have_different_ids():
    model = make_model(tiny_config())
    names = ("denoise", "My Weights_2", "my-weights-2", "mine", "雪", "星", "雪2", "星2")
    ids = [darktable_config(model, name)["id"] for name in names]
    assert ids[0] == "denoise-hypernet-denoise" and ids[2] == "denoise-hypernet-my-weights-2"
    assert ids[1].startswith("denoise-hypernet-my-weights-2-")
    assert len(set(ids)) == len(ids) and all(each.isascii() for each in ids)
    auto = darktable_config(model, "mine", estimates=True)["id"]
    assert auto == "denoise-hypernet-mine-auto"


def test_the_sdk_accepts_it(tmp_path):
    validate = pytest.importorskip(
        "dt_ai_sdk.validate", reason="the extra `darktable` is not installed"
    )
    main(["export", "--task", "denoise", "--format", "darktable", "-o", str(tmp_path / "denoise")])
    assert validate.validate_config_json(tmp_path / "denoise" / "config.json")
    assert validate.validate_onnx(tmp_path / "denoise" / "model.onnx")


def test_refusals(tmp_path, capsys, monkeypatch):
    output = tmp_path / "out"

    def refusal(*options):
        return refuse(capsys, "export", *options, "--format", "darktable", "-o", output)

    assert "noise level" in refusal("--task", "sr")
    assert "noise level" in refusal("--task", "dejpeg")
    assert "--overwrite is not for darktable" in refusal("--task", "denoise", "--overwrite")
    assert "sets the level itself" in refusal("--task", "denoise", "--level", "25")
    grey = tiny_config(colours=1)
    save_weights(tmp_path / "grey.safetensors", tiny_theta(grey), grey)
    assert "in colour" in refusal("--weights", tmp_path / "grey.safetensors")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name, words in (("-", "no name of a folder"), (tmp_path / "link", "already exists")):
        command = ("export", "--task", "denoise", "--format", "darktable", "-o", name)
        assert words in refuse(capsys, *command)
    wide = photo_config()
    wide["network"] |= {"blocks": [4, 4, 4]}
    save_weights(tmp_path / "wide.safetensors", random_theta(make_model(wide)), wide)
    assert "overlap by only 64" in refusal("--weights", tmp_path / "wide.safetensors")
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "hypernet_jax.interchange.darktable", raising=False)
    monkeypatch.delitem(sys.modules, "hypernet_jax.interchange.onnx_model", raising=False)
    assert "hypernet-jax[onnx]" in refusal("--task", "denoise")
    assert not output.exists()
    monkeypatch.undo()
    output.mkdir()
    assert "already exists" in refusal("--task", "denoise")
