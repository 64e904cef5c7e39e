"""Restoring arrays and files, and weights."""

import errno
import io
import sys
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from hypernet_jax import Restorer, UserError, files, load_weights, make_model, save_weights
from hypernet_jax.degradations import bicubic_resize
from hypernet_jax.files import write_atomically
from hypernet_jax.images.writing import Encoding
from hypernet_jax.inference import backends
from hypernet_jax.networks import apply_network
from hypernet_jax.photographs.restoring import restore_file
from hypernet_jax.programs import compiled
from hypernet_jax.tasks import TASKS
from hypernet_jax.weights import shipped_tasks

from .models import RESTORER, tiny_config, tiny_restorer, tiny_theta


@settings(max_examples=25)
@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([np.uint8, np.float32, np.float64]),
)
def test_layout_and_type_are_kept(size, channels, dtype):
    shape = size if channels is None else (*size, channels)
    image = np.random.default_rng(0).random(shape)
    image = (255 * image).astype(np.uint8) if dtype is np.uint8 else image.astype(dtype)
    restored = RESTORER.restore(image, level=30)
    assert restored.shape == image.shape and restored.dtype == dtype
    assert restored.min() >= 0 and restored.max() <= (255 if dtype is np.uint8 else 1)


def test_restoring_is_generating_then_applying(photograph):
    image = photograph[:20, :30]
    model, theta = RESTORER.model, tiny_theta(tiny_config())
    params = model.generate(theta, 40.0)
    expected = model.apply(params, np.float32(image[None]) / 255)[0]
    expected = np.round(255 * np.clip(expected, 0, 1)).astype(int)
    got = RESTORER.restore(image, level=40).astype(int)
    assert np.abs(got - expected).max() <= 1 and (got != expected).mean() < 0.001
    assert (RESTORER.restore(image, level=5) != RESTORER.restore(image, level=90)).any()


def test_one_compilation_serves_all_levels(photograph):
    restorer = tiny_restorer()

    def apply(*args, **kwargs):
        return apply_network(restorer.model.network, *args, **kwargs)

    restorer.backend.apply = jax.jit(chex.assert_max_traces(apply, n=1))
    for level in (5, 5.0, np.float64(5), 25, "50"):
        restorer.restore(photograph[:16, :16], level=level)
    assert restorer._generate.cache_info().currsize == 3


def test_restorers_of_one_network_share_their_programs():
    one, other = tiny_restorer(), tiny_restorer()
    assert one.backend.apply is other.backend.apply
    assert one.backend.apply is not tiny_restorer(colours=1).backend.apply

    def scaled(array, x):
        return array * x

    unhashable = np.ones(2)
    chex.assert_trees_all_equal(compiled(scaled, unhashable)(2.0), jnp.full(2, 2.0))


def test_grey_goes_through_colour_and_colour_through_grey(photograph):
    grey = photograph[:12, :14, 1]
    through = RESTORER.apply(np.float32(grey[None, ..., None]) / 255, level=30)
    rgb = np.repeat(np.float32(grey[None, ..., None]) / 255, 3, axis=-1)
    np.testing.assert_allclose(
        through[..., 0], RESTORER.apply(rgb, level=30).mean(axis=-1), atol=1e-6
    )
    restorer = tiny_restorer(colours=1)
    colour = np.float32(photograph[None, :12, :14]) / 255
    each = [restorer.apply(colour[..., c : c + 1], level=30) for c in range(3)]
    np.testing.assert_allclose(
        restorer.apply(colour, level=30), np.concatenate(each, axis=-1), atol=1e-6
    )


def test_grey_saved_in_colour_stays_grey(photograph):
    grey = photograph[:30, :41, :1]
    restored = RESTORER.restore(np.repeat(grey, 3, axis=-1), level=20)
    np.testing.assert_array_equal(restored, np.repeat(RESTORER.restore(grey, level=20), 3, axis=-1))
    # Part of a colour image does not count as a grey image.
    colour = np.repeat(grey, 3, axis=-1)
    colour[-1, -1] = (200, 0, 0)
    window = RESTORER.restore(colour, level=20, window=(slice(0, 8), slice(0, 8)))
    np.testing.assert_array_equal(window, RESTORER.restore(colour, level=20)[:8, :8])


@pytest.mark.parametrize("memory", [float("nan"), float("inf")])
def test_an_amount_of_memory_that_is_none_is_reported(memory):
    with pytest.raises(UserError, match=r"The amount of memory is .*; give a finite"):
        Restorer(RESTORER.model, tiny_theta(tiny_config()), memory=memory)


@pytest.mark.parametrize(("scale", "size"), [(2, (20, 28)), (2.5, (25, 35)), (1, (10, 14))])
def test_super_resolution_enlarges(scale, size, photograph):
    assert tiny_restorer("sr").restore(photograph[:10, :14], level=scale).shape == (*size, 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.int32), "uint8, uint16 or float"),
        (np.zeros((2, 4, 4, 4), np.uint8), "of shape"),
        (np.zeros((1, 2, 4, 4, 3), np.uint8), "of shape"),
        (np.zeros((4, 4, 4), np.uint8), "of shape"),
        (np.zeros((0, 4, 3), np.uint8), "no pixels"),
        (np.full((4, 4, 3), 2.0), "samples from 2 to 2"),
        (np.full((4, 4, 3), np.nan), "not finite numbers"),
    ],
)
def test_unfit_arrays_are_refused(image, message):
    with pytest.raises(UserError, match=message):
        RESTORER.restore(image, level=5)


@given(st.integers(0, 1000), st.sampled_from(["denoise", "sr", "deblur"]))
def test_a_plain_network_serves_the_level_that_it_is_told_to(tenths, task):
    space = TASKS[task].space
    level = min(max(tenths / 10, space.single.low), space.single.high)
    only = space.at(level)
    assert float(only.parse(level)) == level == float(only.only)
    assert only.parse(np.float32(level)).array == np.float32(level)
    assert only.parse({}) == only.only == only.default
    with pytest.raises(UserError, match="the only one"):
        only.parse(level + 0.1)


def test_an_image_is_enlarged_by_the_factor_that_was_given():
    # In float32 1.3 is slightly smaller, and 1319.5 would round down.
    assert tiny_restorer("sr").restored_size((1015, 10), 1.3) == (1320, 13)


@pytest.mark.parametrize("level", [-1, 100.5, float("nan"), float("inf"), "strong", None])
def test_a_level_out_of_range_names_range_and_unit(level):
    with pytest.raises(ValueError, match=r"from 0 to 100 \(8-bit grey levels\)"):
        RESTORER.restore(np.zeros((4, 4), np.uint8), level=level)


def test_weights_survive_the_file(tmp_path):
    config = tiny_config()
    theta = tiny_theta(config)
    save_weights(tmp_path / "w.safetensors", theta, config)
    model, loaded = load_weights(tmp_path / "w.safetensors")
    chex.assert_trees_all_equal(loaded, theta)
    assert model.parameter_counts() == make_model(config).parameter_counts()
    with pytest.raises(UserError, match="--overwrite"):
        save_weights(tmp_path / "w.safetensors", theta, config)
    theta["features"] = {"broken": np.array([1.0, np.nan])}
    with pytest.raises(UserError, match="not finite"):
        save_weights(tmp_path / "other.safetensors", theta, config)
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize(("task", "level", "colours"), [("denoise", 33.5, 3), ("sr", 1.7, 1)])
def test_backends_agree(task, level, colours, photograph):
    """Odd sizes, several tiles, grey through colour and colour through grey."""
    config = tiny_config(task, colours)
    parts = (make_model(config), tiny_theta(config))
    xla, ort = (Restorer(*parts, memory=2, backend=name) for name in ("jax", "onnxruntime"))
    for image in (photograph[:203, :331], photograph[:7, :90, :1]):
        images = np.stack([image, image[::-1]]) / np.float32(255)
        expected = xla.apply(images, level=level)
        np.testing.assert_allclose(ort.apply(images, level=level), expected, atol=1e-5)
        assert np.abs(ort.apply(images, level=1.5 * level) - expected).max() > 1e-4


def test_a_backend_that_is_not_there_is_reported(monkeypatch):
    parts = (make_model(tiny_config()), tiny_theta(tiny_config()))
    with pytest.raises(UserError, match="backend 'tpu'; choose one of auto, jax, onnxruntime"):
        Restorer(*parts, backend="tpu")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"install hypernet-jax\[onnxruntime\]"):
        Restorer(*parts, backend="onnxruntime")


def test_auto_takes_the_faster_backend_that_runs_the_network(monkeypatch):
    parts = (make_model(tiny_config()), tiny_theta(tiny_config()))
    assert Restorer(*parts).backend.name == "onnxruntime"
    with monkeypatch.context() as patch:
        # Not installed.
        patch.setattr(backends.importlib.util, "find_spec", lambda name: None)
        assert Restorer(*parts).backend.name == "jax"
    with monkeypatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        assert Restorer(*parts).backend.name == "jax"

    def untranslated(*args):
        raise UserError("cannot be translated")

    monkeypatch.setattr(backends.OnnxRuntimeBackend, "__init__", untranslated)
    assert Restorer(*parts).backend.name == "jax"


def test_levels_of_onnx_runtime_share_one_graph(photograph):
    """Each level refills the graph, and earlier sessions are unaffected."""
    restorer = Restorer(make_model(tiny_config()), tiny_theta(tiny_config()), backend="onnxruntime")
    image = photograph[:30, :40] / np.float32(255)
    first = restorer.apply(image[None], level=10)
    for level in (10, 60, 10):
        expected = RESTORER.apply(image[None], level=level)
        found = restorer.apply(image[None], level=level)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(restorer.apply(image[None], level=10), first)


def test_half_the_bits_make_half_the_file(tmp_path):
    config = tiny_config()
    theta = tiny_theta(config)
    whole, half = tmp_path / "w.safetensors", tmp_path / "h.safetensors"
    save_weights(whole, theta, config)
    save_weights(half, theta, config, half=True)
    numbers = sum(leaf.size for leaf in jax.tree.leaves(theta))
    assert whole.stat().st_size - half.stat().st_size == pytest.approx(2 * numbers, abs=100)
    loaded = load_weights(half)[1]
    chex.assert_trees_all_equal_dtypes(loaded, theta)
    chex.assert_trees_all_close(loaded, theta, rtol=2**-11, atol=1e-7)
    too_large = jax.tree.map(lambda leaf: leaf + 1e5, theta)
    with pytest.raises(UserError, match="16 bits"):
        save_weights(tmp_path / "x.safetensors", too_large, config, half=True)
    assert not (tmp_path / "x.safetensors").exists()


def test_damaged_weights_are_reported(tmp_path):
    file = tmp_path / "w.safetensors"
    save_weights(file, tiny_theta(tiny_config()), tiny_config())
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        load_weights(file)
    with pytest.raises(UserError, match="no weights 'dehaze'"):
        load_weights("dehaze")
    other = tiny_config() | {"network": tiny_config()["network"] | {"channels": 6}}
    save_weights(tmp_path / "v.safetensors", tiny_theta(tiny_config()), other)
    with pytest.raises(UserError, match="do not fit"):
        load_weights(tmp_path / "v.safetensors")


@pytest.mark.parametrize("name", shipped_tasks())
def test_shipped_weights_improve_a_real_photograph(name, photograph):
    from hypernet_jax.metrics import psnr

    restorer = Restorer.from_pretrained(name)
    task = restorer.model.task
    clean = photograph[100:228, 200:328]
    for level in map(task.space.parse, task.levels):
        degraded = np.asarray(task.degradation(jax.random.key(0), clean, level.named))
        restored = 255 * restorer.apply(degraded[None] / np.float32(255), level=level)[0]
        assert psnr(restored, clean) > psnr(degraded, clean) + 0.2, level


def picture(mode, size=(21, 14)):
    gradient = np.linspace(0, 255, size[0] * size[1]).reshape(size[::-1]).astype(np.uint8)
    rgba = np.stack([gradient, gradient.T.reshape(gradient.shape), 255 - gradient, gradient], -1)
    opaque = mode in ("RGB", "P", "L", "1")
    return Image.fromarray(rgba[..., :3] if opaque else rgba).convert(mode)


@pytest.mark.parametrize(
    ("mode", "kept"),
    [("RGB", "RGB"), ("L", "L"), ("RGBA", "RGBA"), ("LA", "LA"), ("P", "RGB"), ("1", "L")],
)
def test_files_keep_their_kind(mode, kept, tmp_path):
    picture(mode).save(tmp_path / "in.png")
    restored = restore_file(RESTORER, tmp_path / "in.png", tmp_path / "out.png", level=20)
    out = Image.open(tmp_path / "out.png")
    assert restored.size == out.size == (21, 14) and out.mode == kept
    if "A" in mode:
        np.testing.assert_array_equal(np.asarray(out)[..., -1], np.asarray(picture(mode))[..., -1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "out.png"]


def test_transparency_is_enlarged_too(tmp_path):
    picture("RGBA").save(tmp_path / "in.png")
    restore_file(tiny_restorer("sr"), tmp_path / "in.png", tmp_path / "out.png", level=1.5)
    out = np.asarray(Image.open(tmp_path / "out.png"))
    alpha = np.asarray(picture("RGBA"))[..., 3:]
    expected = np.clip(np.round(bicubic_resize(alpha, 1.5, size=out.shape[:2])), 0, 255)
    np.testing.assert_array_equal(out[..., 3:], expected)
    with pytest.raises(UserError, match="transparent"):
        restore_file(tiny_restorer("sr"), tmp_path / "in.png", tmp_path / "out.jpg", level=1.5)
    assert not (tmp_path / "out.jpg").exists()


def test_profile_and_orientation_are_kept(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture("RGB").save(tmp_path / "in.jpg", icc_profile=profile, exif=exif)
    restore_file(RESTORER, tmp_path / "in.jpg", tmp_path / "out.png", level=20)
    out = Image.open(tmp_path / "out.png")
    assert out.size == (14, 21) and out.info["icc_profile"] == profile


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_output_format_is_that_of_the_name(suffix, tmp_path):
    picture("RGB").save(tmp_path / "in.png")
    restore_file(RESTORER, tmp_path / "in.png", tmp_path / f"out.{suffix}", level=20)
    formats = {"jpg": "JPEG", "tif": "TIFF"}
    assert Image.open(tmp_path / f"out.{suffix}").format == formats.get(suffix, suffix.upper())


def test_what_would_be_lost_is_refused(tmp_path):
    frames = [picture("RGB"), picture("RGB").rotate(90)]
    for name in ("in.gif", "in.png", "in.webp", "in.tif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        with pytest.raises(UserError, match="2 frames or pages"):
            restore_file(RESTORER, tmp_path / name, tmp_path / "out.png", level=20)
    assert not (tmp_path / "out.png").exists()


def test_a_picture_too_large_for_its_format_is_reported(tmp_path):
    Image.new("L", (17_000, 2)).save(tmp_path / "in.png")
    with pytest.raises(UserError, match=r"17000x2 pixels, but WEBP .* 16383 .* such as \.png"):
        restore_file(RESTORER, tmp_path / "in.png", tmp_path / "out.webp", level=20)
    assert not (tmp_path / "out.webp").exists()


@pytest.mark.parametrize(("form", "longest"), [("JPEG", 65_500), ("WEBP", 16_383)])
def test_the_limits_of_formats_are_those_of_their_encoders(form, longest):
    def encode(side):
        Image.new("L", (side, 1)).save(io.BytesIO(), form)

    Encoding().check(form, size=(1, longest))
    encode(longest)
    with pytest.raises(UserError, match=f"only {longest} on a side"):
        Encoding().check(form, size=(longest + 1, 1))
    with pytest.raises((OSError, ValueError)):
        encode(longest + 1)


def test_a_result_too_large_for_its_format_is_told_before_the_work(tmp_path):
    Image.new("L", (9_000, 2)).save(tmp_path / "in.png")
    called = []
    with pytest.raises(UserError, match="18000x4 pixels"):
        restore_file(
            tiny_restorer("sr"),
            tmp_path / "in.png",
            tmp_path / "out.webp",
            level=2,
            progress=lambda *counts: called.append(counts),
        )
    assert not called


def test_files_are_written_whole_or_not_at_all(tmp_path):
    target = tmp_path / "file.bin"
    write_atomically(target, b"first")
    with pytest.raises(UserError, match="--overwrite"):
        write_atomically(target, b"second")
    assert target.read_bytes() == b"first"
    write_atomically(target, b"second", overwrite=True)
    assert target.read_bytes() == b"second"
    with pytest.raises(UserError, match="is a folder"):
        write_atomically(tmp_path, b"x", overwrite=True)
    with pytest.raises(UserError, match="cannot be written"):
        write_atomically(tmp_path / "nowhere" / "file.bin", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("links", [True, False])
def test_what_appears_meanwhile_is_not_replaced(links, tmp_path, monkeypatch):
    target, check = tmp_path / "file.bin", files.check_output

    def appears(path, *, overwrite):
        check(path, overwrite=overwrite)
        Path(path).write_bytes(b"of another")

    def refused(*paths):
        raise OSError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(files.os, "link", refused)
        write_atomically(target, b"first")
        assert target.read_bytes() == b"first"
        target.unlink()
    with monkeypatch.context() as patch:
        if links:
            patch.setattr(files, "check_output", appears)
        else:
            target.write_bytes(b"of another")
        with pytest.raises(UserError, match="already exists"):
            write_atomically(target, b"mine")
    assert target.read_bytes() == b"of another"
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_truncated_files_of_every_length_are_reported(tmp_path):
    stream = io.BytesIO()
    picture("RGB", (40, 40)).save(stream, "PNG")
    whole = stream.getvalue()
    for length in range(0, len(whole) - 20, 37):
        (tmp_path / "in.png").write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"in\.png"):
            restore_file(RESTORER, tmp_path / "in.png", tmp_path / "out.png", level=20)
    assert not (tmp_path / "out.png").exists()
