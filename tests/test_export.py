"""Exports: every exported file computes the same as the live model."""

import json
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest

from hypernet_jax import Restorer, UserError, load_weights, make_model, save_weights
from hypernet_jax.cli.main import main
from hypernet_jax.files import write_together
from hypernet_jax.interchange.onnx_graph import Graph
from hypernet_jax.interchange.onnx_jaxpr import translate
from hypernet_jax.interchange.onnx_value import Value
from hypernet_jax.interchange.portable import describe
from hypernet_jax.normalisation import NORMALISATIONS

from .commands import refuse
from .conftest import REPOSITORY
from .models import photo_config, tiny_config, tiny_theta

LEVELS = {"denoise": (0, 25, 77.5), "dejpeg": (1, 35, 90), "sr": (1, 2.5, 4)}
SIZES = ((1, 32, 48), (2, 27, 41), (1, 1, 5))


def images(photograph):
    """Batches of real crops of various sizes, including odd ones."""
    for count, height, width in SIZES:
        starts = range(30, 30 + 50 * count, 50)
        crops = [photograph[s : s + height, s : s + width] for s in starts]
        yield np.stack(crops) / np.float32(255)


def export(tmp_path, *options):
    output = tmp_path / "model"
    main(["export", *map(str, options), "-o", str(output)])
    return output


def run_onnx(file):
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

    def run(image, level=None):
        inputs = {"image": image.transpose(0, 3, 1, 2)}
        if level is not None:
            inputs["level"] = np.array(level, np.float32)
        return session.run(["restored"], inputs)[0].transpose(0, 2, 3, 1)

    return run


# Runs an artefact while only JAX and NumPy can be imported.
ALONE = """
import sys
from importlib.abc import MetaPathFinder
class Refuse(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("hypernet_jax", "flax", "optax"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
import jax, numpy as np
from jax import export
cases = np.load(sys.argv[2])
exported = export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
assert set(exported.platforms) == {"cpu", "cuda", "tpu"}, exported.platforms
results = {}
for name in cases.files:
    if name.startswith("image"):
        for level in cases["levels"]:
            inputs = [cases[name]] + ([np.float32(level)] if cases["levelled"] else [])
            results[f"{name}/{level:g}"] = np.asarray(exported.call(*inputs))
np.savez(sys.argv[3], **results)
print(sorted(m for m in sys.modules if m.split(".")[0] == "hypernet_jax"))
"""


@pytest.mark.parametrize(("task", "baked"), [("denoise", None), ("sr", None), ("denoise", 25)])
def test_stablehlo_in_a_process_with_jax_alone(task, baked, photograph, tmp_path):
    options = [] if baked is None else ["--level", baked]
    file = export(tmp_path, "--task", task, "--format", "stablehlo", *options)
    levels = LEVELS[task] if baked is None else (baked,)
    cases = {f"image{i}": image for i, image in enumerate(images(photograph))}
    np.savez(tmp_path / "cases.npz", levels=np.float32(levels), levelled=baked is None, **cases)
    process = subprocess.run(
        [sys.executable, "-c", ALONE, file, tmp_path / "cases.npz", tmp_path / "results.npz"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() == "[]"
    results, live = np.load(tmp_path / "results.npz"), Restorer.from_pretrained(task)
    for name, image in cases.items():
        for level in levels:
            expected = live.apply(image, level=level)
            got = results[f"{name}/{level:g}"]
            np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)
    description = json.loads((tmp_path / "model.json").read_text())
    assert description["task"] == task and description["colours"] == 3
    assert description["level_is_input"] == (baked is None)
    assert description["level_neutral"] == live.space.single.neutral
    assert ("rounded and clipped to 8 bits" in description["image"]) == (task == "sr")
    assert ("enlarged" in description["image"]) == (task == "sr")


@pytest.mark.parametrize("task", LEVELS)
def test_onnx_of_shipped_weights(task, photograph, tmp_path):
    file = export(tmp_path, "--task", task, "--format", "onnx")
    run, live = run_onnx(file), Restorer.from_pretrained(task)
    for image in images(photograph):
        restored = [run(image, level) for level in LEVELS[task]]
        for level, got in zip(LEVELS[task], restored, strict=True):
            np.testing.assert_allclose(got, live.apply(image, level=level), atol=1e-4, rtol=0)
        assert np.abs(restored[0] - restored[-1]).max() > 1e-3
    description = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
    axis = live.space.single
    assert description["task"] == task and description["colours"] == "3"
    assert description["level_is_input"] == "true"
    assert float(description["level_low"]) == axis.low
    assert float(description["level_high"]) == axis.high
    assert ("enlarged" in description["image"]) == (task == "sr")


FEATURES = (
    *("affine", "proportional", "polynomial", "mlp", "constant"),
    *("independent", "interpolated"),
)
# Each normalisation with two features, and with rotating options of the network.
KINDS = [
    (normalisation, features)
    for i, normalisation in enumerate(NORMALISATIONS)
    for j, features in enumerate(FEATURES)
    if (2 * i + j) % 7 < 2
]


@pytest.mark.parametrize(("normalisation", "features"), KINDS)
def test_onnx_of_every_kind_of_model(normalisation, features, photograph, tmp_path):
    index = KINDS.index((normalisation, features))
    grey = index % 3 == 0
    config = tiny_config("dejpeg", colours=1 if grey else 3) | {
        "normalisation": normalisation,
        "features": {"name": features, "levels": (60.0, 10.0, 95.0)},
        "generated": "block_" if index % 2 else "",
    }
    # The cases contain every combination of the two.
    config["network"] |= {"light_tail": index % 2 == 0, "residual_output": index % 4 < 2}
    save_weights(tmp_path / "w.safetensors", tiny_theta(config), config)
    live = Restorer.from_pretrained(tmp_path / "w.safetensors")
    file = export(tmp_path, "--weights", tmp_path / "w.safetensors", "--format", "onnx")
    run = run_onnx(file)
    for image in list(images(photograph))[1:]:
        image = image[..., :1] if grey else image
        for level in (1, 49, 50, 83.5, 100):
            got = run(image, None if features == "constant" else level)
            expected = live.apply(image, level=level)
            # At quality 1 some of these untrained networks give values in the hundreds.
            size = max(1.0, float(np.abs(expected).max()))
            np.testing.assert_allclose(got / size, expected / size, atol=1e-4, rtol=0)


NETWORKS = {
    "unet": {
        "name": "unet", "channels": [4, 6, 8], "blocks": [1, 1, 1], "activation": "leaky_relu",
        "centre": 0.5,
    },
    "published tail": {
        "name": "residual", "channels": 4, "blocks": 1, "light_tail": False,
        "activation": "leaky_relu",
    },
    "level_plane": {"name": "level_plane", "channels": 4, "blocks": 1},
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_exported_from_itself(name, photograph, tmp_path):
    config = tiny_config() | {"network": NETWORKS[name]}
    if name == "level_plane":
        config |= {"features": {"name": "proportional"}, "generated": "^level$"}
    save_weights(tmp_path / "w.safetensors", tiny_theta(config), config)
    live = Restorer.from_pretrained(tmp_path / "w.safetensors")
    weights = ("--weights", tmp_path / "w.safetensors")
    run = run_onnx(export(tmp_path, *weights, "--format", "onnx"))
    (tmp_path / "model").unlink()
    artefact = export(tmp_path, *weights, "--format", "stablehlo").read_bytes()
    called = jax.jit(jax.export.deserialize(bytearray(artefact)).call)
    # Sides of 1, and sides with every remainder modulo 8.
    for height, width in ((32, 48), (27, 41), (1, 5), (50, 31)):
        image = photograph[None, :height, :width] / np.float32(255)
        for level in (0, 25, 77.5):
            expected = live.apply(image, level=level)
            np.testing.assert_allclose(run(image, level), expected, atol=1e-4, rtol=0)
            got = called(image, np.float32(level))
            np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)


def test_onnx_runtime_is_a_backend_for_every_network(photograph, tmp_path):
    config = tiny_config() | {"network": NETWORKS["unet"]}
    save_weights(tmp_path / "w.safetensors", tiny_theta(config), config)
    image = photograph[:70, :99]
    one, other = (
        Restorer.from_pretrained(tmp_path / "w.safetensors", backend=backend).restore(
            image / np.float32(255), level=30
        )
        for backend in ("jax", "onnxruntime")
    )
    np.testing.assert_allclose(one, other, atol=1e-4, rtol=0)


@pytest.mark.parametrize("format_", ["onnx", "stablehlo"])
@pytest.mark.parametrize(
    ("network", "features"),
    [("unet", "affine"), ("residual", "mlp"), ("residual", "polynomial"), ("unet", "interpolated")],
)
def test_a_level_for_each_pixel(format_, network, features, photograph, tmp_path):
    config = tiny_config() | {"features": {"name": features, "levels": (60.0, 10.0, 95.0)}}
    if network == "unet":
        config |= {"network": NETWORKS["unet"]}
    else:
        config |= {"generated": "block_"}
    weights = tmp_path / "w.safetensors"
    save_weights(weights, tiny_theta(config), config)
    live = Restorer.from_pretrained(weights, backend="jax")
    options = ("--weights", weights, "--format", format_, "--level-map")
    file = export(tmp_path, *options)
    if format_ == "onnx":
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        described = {entry.key: entry.value for entry in onnx.load(file).metadata_props}
        assert described["level_is_map"] == "true"

        def run(image, levels):
            given = {"image": image, "level": levels}
            given = {name: x.transpose(0, 3, 1, 2) for name, x in given.items()}
            return session.run(None, given)[0].transpose(0, 2, 3, 1)
    else:
        run = jax.jit(jax.export.deserialize(bytearray(file.read_bytes())).call)
    for image in images(photograph):
        size = image.shape[1:3]
        same = np.full((*image.shape[:3], 1), 30, np.float32)
        expected = live.apply(image, level=30)
        np.testing.assert_allclose(run(image, same), expected, atol=1e-5, rtol=0)
        smooth = np.linspace(1, 90, size[1], dtype=np.float32)[None, None, :, None] + same - 30
        model, theta = load_weights(weights)
        expected = jax.jit(model.restore_pixels)(theta, smooth, image)
        np.testing.assert_allclose(run(image, smooth), expected, atol=1e-5, rtol=0)


def test_a_network_without_a_translation_is_refused_in_a_sentence():
    def sorts(image, level):
        return jnp.sort(image, axis=-1) + level

    image = jax.ShapeDtypeStruct((1, 4, 6, 3), jnp.float32)
    scalar = jax.ShapeDtypeStruct((), jnp.float32)
    inputs = (Value(image.shape, lambda: "image", is_image=True), image)
    with pytest.raises(UserError, match="uses sort, which cannot be translated to ONNX"):
        translate(Graph(), sorts, inputs, (Value((), lambda: "level"), scalar))

    def rounds(image, level):
        return image.astype(jnp.bfloat16).astype(jnp.float32) + level

    with pytest.raises(UserError, match="a conversion from float32 to bfloat16"):
        translate(Graph(), rounds, inputs, (Value((), lambda: "level"), scalar))


def test_one_level_baked_in(photograph, tmp_path):
    live = Restorer.from_pretrained("denoise")
    plain = tmp_path / "plain.safetensors"
    main(
        [
            "export",
            "--task",
            "denoise",
            "--format",
            "safetensors",
            "--level",
            "25",
            "-o",
            str(plain),
        ]
    )
    file = export(tmp_path, "--task", "denoise", "--format", "onnx", "--level", 25)
    assert [each.name for each in onnx.load(file).graph.input] == ["image"]
    whole = tmp_path / "whole.safetensors"
    main(["export", "--task", "denoise", "--format", "safetensors", "-o", str(whole)])
    assert plain.stat().st_size < 0.6 * whole.stat().st_size
    assert file.stat().st_size < 0.6 * whole.stat().st_size
    jax.tree.map(np.testing.assert_array_equal, load_weights(whole)[1], load_weights("denoise")[1])
    restorer, run = Restorer.from_pretrained(plain), run_onnx(file)
    for image in images(photograph):
        expected = live.apply(image, level=25)
        np.testing.assert_allclose(restorer.apply(image, level=25), expected, atol=1e-6, rtol=0)
        np.testing.assert_allclose(run(image), expected, atol=1e-4, rtol=0)
    with pytest.raises(UserError, match="only one"):
        restorer.apply(image, level=26)
    with pytest.raises(UserError, match="serves only the level 25; give that instead of auto"):
        restorer.restore(photograph, level="auto")
    # Weights with a baked-in level are exported unchanged, and at no other level.
    again = tmp_path / "again.onnx"
    main(["export", "--weights", str(plain), "--format", "onnx", "-o", str(again)])
    assert again.read_bytes() == file.read_bytes()


def test_export_refuses_with_a_sentence(tmp_path, capsys, monkeypatch):
    output = tmp_path / "model.onnx"

    def refusal(*options):
        return refuse(capsys, "export", *options, "-o", output)

    assert "stablehlo, onnx, safetensors, darktable" in refusal(
        "--task", "denoise", "--format", "tflite"
    )
    for format_ in ("onnx", "darktable"):
        for task, words in (("dehaze", "Unknown task 'dehaze'"), ("mixed", "No weights for mixed")):
            message = refusal("--task", task, "--format", format_)
            assert f"{words}; " in message or f"{words} " in message
            assert ", photo, or give --weights FILE" in message
            assert "mixed" not in message.partition("choose")[2]
    assert "no weights" in refusal("--weights", "nothing", "--format", "onnx")
    assert "from 0 to 100" in refusal("--task", "denoise", "--format", "onnx", "--level", "101")
    for format_ in ("onnx", "stablehlo"):
        message = refusal("--task", "sr", "--format", format_, "--level-map")
        assert "the same for the whole image" in message
    assert "leave out" in refusal("--task", "denoise", "--format", "safetensors", "--level-map")
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "hypernet_jax.interchange.onnx_model", raising=False)
    monkeypatch.delitem(sys.modules, "hypernet_jax.interchange.onnx_graph", raising=False)
    assert "hypernet-jax[onnx]" in refusal("--task", "denoise", "--format", "onnx")
    assert not list(tmp_path.iterdir())
    output.write_text("precious")
    assert "already exists" in refusal("--task", "denoise", "--format", "safetensors")
    assert output.read_text() == "precious"
    side = tmp_path / "m.json"
    side.write_text("precious")
    assert "m.json already exists" in refuse(
        capsys, "export", "--task", "denoise", "--format", "stablehlo", "-o", tmp_path / "m"
    )
    assert not (tmp_path / "m").exists()


def test_two_files_are_written_together_or_not_at_all(tmp_path):
    first, second = tmp_path / "model", tmp_path / "model.json"
    write_together({first: b"1", second: b"2"}, False)
    first.chmod(0o600)
    with pytest.raises(UserError, match="model already exists"):
        write_together({first: b"3", second: b"4"}, False)
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")
    script = (
        "import resource, sys; from pathlib import Path; from hypernet_jax import files\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try: files.write_together({Path('model.json'): b'5', Path('model'): b'6' * 2000}, True)\n"
        "except files.UserError as error: print(error)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "The output model cannot be written (File too large)" in done.stdout
    assert (first.read_bytes(), second.read_bytes()) == (b"1", b"2")
    write_together({first: b"7", second: b"8"}, True)
    assert (first.read_bytes(), second.read_bytes()) == (b"7", b"8")
    assert first.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.json"]


def test_the_description_of_a_level_with_several_parts():
    described = describe(make_model(photo_config()), level=None, layout="NCHW")
    assert described["level_parts"] == ["noise", "jpeg", "blur"]
    assert described["level_neutral"] == [0.0, 100.0, 0.0]


def test_nothing_of_onnx_or_torch_is_imported_unasked():
    code = (
        "import sys, hypernet_jax.cli.export, hypernet_jax.cli.import_torch; "
        "print([name for name in ('onnx', 'torch', 'onnxruntime') if name in sys.modules])"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    )
    assert process.stdout.strip() == "[]"
