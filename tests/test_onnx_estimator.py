"""The exported level estimator, and models that contain it."""

import json

import jax
import numpy as np
import onnxruntime
import pytest

from hypernet_jax import Restorer, get_task, save_weights
from hypernet_jax.blind.estimate import photo_estimator
from hypernet_jax.blind.parts import beyond_natural
from hypernet_jax.cli.main import main
from hypernet_jax.degradations import camera_noise, gaussian_blur, jpeg
from hypernet_jax.inference.requests import resolve_level
from hypernet_jax.interchange.onnx_estimator import _Builder, _value, export_estimator

from .commands import refuse
from .darktable_tiles import tiled
from .models import tiny_config, tiny_theta

SPACE = get_task("photo").space


def session_of(content):
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def run(session, image):
    """Runs a model on (H, W, 3) in [0, 1]."""
    planes = np.float32(image).transpose(2, 0, 1)[None]
    return session.run(None, {session.get_inputs()[0].name: planes})[0]


@pytest.fixture(scope="module")
def exported():
    return session_of(export_estimator(photo_estimator(), SPACE).SerializeToString())


@pytest.fixture(scope="module")
def with_noise(photograph):
    noisy = jax.jit(camera_noise)(jax.random.key(3), photograph, 15)
    return np.clip(np.round(np.asarray(noisy)), 0, 255)


@pytest.mark.parametrize("size", [(256, 256), (257, 400), (400, 600)])
@pytest.mark.parametrize("kind", ["as it is", "noisy", "compressed", "grey", "flat", "blurred"])
def test_it_finds_what_the_package_finds(kind, size, photograph, with_noise, exported):
    image = with_noise if kind == "noisy" else photograph
    image = image[: size[0], : size[1]].astype(np.float32)
    if kind == "compressed":
        image = np.asarray(jpeg(None, image, 40), np.float32)
    elif kind == "grey":
        image = np.repeat(image[..., :1], 3, axis=-1)
    elif kind == "blurred":
        image = np.round(np.asarray(gaussian_blur(None, image, 1.8)))
    elif kind == "flat":
        image = np.full_like(image, 128)
    expected = photo_estimator().estimate(np.asarray(image), SPACE)
    found = dict(zip(SPACE.names, run(exported, image / 255), strict=True))
    for axis in SPACE.axes:
        z, of_package = (float(axis.normalise(level[axis.name])) for level in (found, expected))
        assert z == pytest.approx(of_package, abs=2e-3), axis.name


def test_it_looks_at_the_middle_of_a_large_image(photograph, exported):
    image = np.tile(photograph[:300, :320], (10, 1, 1)).astype(np.float32)
    # The middle 2048 rows begin at 464. Elsewhere three quarters of all rows are noisy.
    noise = np.random.default_rng(0).normal(0, 20, (2540, 320, 3))
    image[460:] = np.clip(np.round(image[460:] + noise), 0, 255)
    expected, _ = resolve_level(get_task("photo"), "auto", image.astype(np.uint8), None)
    found = dict(zip(SPACE.names, run(exported, image / 255), strict=True))
    assert expected["noise"] > 10
    for axis in SPACE.axes:
        z, of_package = (float(axis.normalise(level[axis.name])) for level in (found, expected))
        assert z == pytest.approx(of_package, abs=2e-3), axis.name


@pytest.mark.parametrize("size", [(1, 1), (3, 190), (100, 150), (192, 192)])
def test_small_images_are_continued(size, with_noise, exported):
    image = with_noise[: size[0], : size[1]].astype(np.float32)
    missing = [(0, 192 - length) for length in size]
    continued = np.pad(image, (*missing, (0, 0)), mode="symmetric")
    expected = photo_estimator().estimate(continued, SPACE)
    found = dict(zip(SPACE.names, run(exported, image / 255), strict=True))
    for axis in SPACE.axes:
        z, of_package = (float(axis.normalise(level[axis.name])) for level in (found, expected))
        assert z == pytest.approx(of_package, abs=2e-3), axis.name


@pytest.mark.parametrize("axis", SPACE.axes, ids=SPACE.names)
def test_the_table_of_levels(axis):
    build = _Builder()
    ends = sorted(float(axis.normalise(end)) for end in (axis.low, axis.high))
    model = build.model(
        inputs=[("z", (1, 1))], output=(_value(build, axis, "z"), "level", (1, 1)), metadata={}
    )
    session = session_of(model.SerializeToString())
    zs = np.linspace(ends[0] - 0.1, ends[1] + 0.1, 1001)
    found = np.array([session.run(None, {"z": np.float32([[z]])})[0][0, 0] for z in zs])
    values = np.asarray(axis.values_at(np.clip(zs, *ends)))
    expected = np.array([beyond_natural(axis.name, float(value)) for value in values])
    errors = np.abs(np.asarray(axis.normalise(found)) - np.asarray(axis.normalise(expected)))
    # At quality 100 z is infinitely steep.
    assert ((errors <= 1e-3) | (np.abs(found - expected) <= 5e-3)).all()


@pytest.fixture(scope="module")
def noisy(with_noise):
    return with_noise[:320, :352] / np.float32(255)


def test_a_model_that_estimates_its_level(noisy, tmp_path, capsys):
    path = tmp_path / "photo.onnx"
    main(["export", "--task", "photo", "--format", "onnx", "--level", "auto", "-o", str(path)])
    assert "estimates itself" in capsys.readouterr().out
    session = session_of(path.read_bytes())
    assert [each.name for each in session.get_inputs()] == ["image"]
    live = Restorer.from_pretrained("photo").restore(noisy, level="auto")
    found = np.clip(run(session, noisy)[0].transpose(1, 2, 0), 0, 1)
    np.testing.assert_allclose(found, live, atol=5e-3)


def test_darktable_without_a_slider(noisy, tmp_path):
    folder = tmp_path / "photo"
    command = ["export", "--task", "photo", "--format", "darktable", "--level", "auto"]
    main([*command, "-o", str(folder)])
    config = json.loads((folder / "config.json").read_text())
    assert config["id"].endswith("-auto") and config["num_inputs"] == 1
    session = session_of((folder / "model.onnx").read_bytes())
    assert [each.name for each in session.get_inputs()] == ["input"]
    got = tiled(lambda tile, _: run(session, tile)[0].transpose(1, 2, 0), noisy, None, 256)
    # Each tile has its own estimate.
    live = Restorer.from_pretrained("photo")
    expected = tiled(lambda tile, _: live.restore(tile, level="auto"), noisy, None, 256)
    np.testing.assert_allclose(got, expected, atol=5e-3)
    validate = pytest.importorskip("dt_ai_sdk.validate", reason="darktable-ai-sdk is missing")
    assert validate.validate_config_json(folder / "config.json")
    assert validate.validate_onnx(folder / "model.onnx")


@pytest.mark.parametrize("format_", ["onnx", "darktable"])
def test_a_level_that_is_not_estimated_whole_is_refused(format_, tmp_path, capsys):
    config = tiny_config() | {"features": {"name": "constant"}}
    save_weights(tmp_path / "plain.safetensors", tiny_theta(config), config)
    command = ["export", "--weights", tmp_path / "plain.safetensors", "--format", format_]
    output = ("-o", tmp_path / "out")
    assert "serve only one level" in refuse(capsys, *command, "--level", "auto", *output)
    if format_ == "onnx":
        command = ["export", "--task", "photo", "--format", format_]
        said = refuse(capsys, *command, "--level", "noise=15,jpeg=auto", *output)
        assert "estimates all parts of its level (--level auto" in said and "none" in said


def test_refusals(tmp_path, capsys):
    def refused(*options):
        return refuse(capsys, "export", *options, "--level", "auto", "-o", tmp_path / "out")

    assert "no estimator network" in refused("--task", "denoise", "--format", "onnx")
    assert "no estimator network" in refused("--task", "denoise", "--format", "darktable")
    assert "onnx and darktable" in refused("--task", "photo", "--format", "stablehlo")
