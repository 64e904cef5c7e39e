"""A level for every pixel, with tiles, windows, backends and mask files."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from hypernet_jax import (
    BLUR_SIGMA,
    Restorer,
    UserError,
    get_task,
    make_model,
    programs,
    save_weights,
)
from hypernet_jax.cli.main import main
from hypernet_jax.photographs.level_maps import (
    blend_of_mask,
    level_map,
    parse_masks,
    read_mask,
    read_masks,
)

from .commands import refuse
from .models import (
    RESTORER,
    photo_config,
    random_theta,
    tiny_config,
    tiny_restorer,
    tiny_theta,
    unet_config,
)


def unet_restorer(memory):
    config = unet_config() | {"task": "deblur", "normalisation": BLUR_SIGMA.normalisation}
    model = make_model(config)
    return Restorer(model, random_theta(model), memory=memory)


def smooth(size, low, high):
    """A map with a soft edge."""
    across = np.linspace(-6, 6, size[1], dtype=np.float32)[None]
    down = np.linspace(-1, 1, size[0], dtype=np.float32)[:, None]
    return low + (high - low) / (1 + np.exp(across + down))


@pytest.mark.parametrize("kind", ["residual", "unet"])
@pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
def test_a_constant_map_is_the_level(kind, backend, photograph):
    if kind == "unet":
        restorer, level = unet_restorer(60), 2.0
    else:
        parts = make_model(tiny_config()), tiny_theta(tiny_config())
        restorer, level = Restorer(*parts, memory=3, backend=backend), 30.0
    for height, width in ((1, 1), (7, 50), (133, 200)):
        image = photograph[:height, :width] / np.float32(255)
        found = restorer.restore(image, level=np.full((height, width), level))
        np.testing.assert_allclose(found, restorer.restore(image, level=level), atol=1e-5)


@pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
@pytest.mark.parametrize("memory", [3, 600])
def test_tiles_of_a_map_are_the_whole(memory, backend, photograph):
    image = photograph[:150, :233] / np.float32(255)
    levels = smooth(image.shape[:2], 5.0, 60.0)
    model, theta = make_model(tiny_config()), tiny_theta(tiny_config())
    restore = jax.jit(model.restore_pixels)
    whole = np.asarray(restore(theta, levels[None, ..., None], image[None]))[0]
    restorer = Restorer(model, theta, memory=memory, backend=backend)
    found = restorer.restore(image, level=levels)
    np.testing.assert_allclose(found, np.clip(whole, 0, 1), atol=1e-5)
    window = np.s_[20:90, 100:170]
    part = restorer.restore(image, level=levels, window=window)
    np.testing.assert_allclose(part, found[window], atol=1e-5)
    # A grey image stored in colour is restored as grey, with its map.
    grey = np.repeat(image[..., :1], 3, axis=-1)
    made = restorer.restore(grey, level=levels)
    assert (made == made[..., :1]).all()


def test_of_two_halves_each_is_restored_at_its_own(photograph):
    image = photograph[:60, :200]
    levels = np.where(np.arange(200) < 100, 10.0, 40.0) * np.ones((60, 1))
    reach = RESTORER.model.network.spec.reach
    found = RESTORER.restore(image, level=levels).astype(int)
    for level, part in ((10, np.s_[:, : 100 - reach]), (40, np.s_[:, 100 + reach :])):
        alone = RESTORER.restore(image, level=level).astype(int)
        assert np.abs(found[part] - alone[part]).max() <= 1


@pytest.mark.parametrize("backend", ["jax", "onnxruntime"])
@pytest.mark.parametrize("kernels", [2, 4])
def test_maps_of_levels_with_parts(kernels, backend, photograph, monkeypatch):
    model = make_model(photo_config())
    theta = random_theta(model)
    restorer = Restorer(model, theta, backend=backend)
    asked = []
    prepare = restorer.backend.prepare_map

    def prepare_map(banks, **options):
        asked.append({len(bank) for bank in banks.values()})
        return prepare(banks, **options)

    monkeypatch.setattr(restorer.backend, "prepare_map", prepare_map)
    image = photograph[:70, :100] / np.float32(255)
    strong = model.task.space.parse({"noise": 40, "jpeg": 30, "blur": 1.5})
    levels = level_map(strong, smooth(image.shape[:2], 0.0, 1.0))
    if kernels == 4:  # no longer on a line
        levels[..., 0] = 50 * smooth(image.shape[:2], 1.0, 0.0) ** 2
    found = restorer.restore(image, level=levels)
    # For a mask two kernels are enough.
    assert asked[-1] == {kernels}
    expected = np.asarray(jax.jit(model.restore_pixels)(theta, levels[None], image[None]))[0]
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=2e-4 if kernels == 2 else 1e-5)
    whole = level_map(strong, np.ones(image.shape[:2]))
    same = restorer.restore(image, level=whole)
    np.testing.assert_allclose(same, restorer.restore(image, level=strong), atol=1e-5)


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (np.full((5, 6), 20.0), "shape"),
        (np.full((30, 40), 300.0), "out of range; give a noise sigma from 0 to 100"),
        (np.full((30, 40), np.nan), "out of range"),
        (np.full((30, 40, 2), 20.0), "shape"),
        (np.full((30, 40), "a"), "numbers"),
    ],
)
def test_unfit_maps_are_refused(level, message, photograph):
    with pytest.raises(UserError, match=message):
        RESTORER.restore(photograph[:30, :40], level=level)
    with pytest.raises(UserError, match="the same for the whole image"):
        tiny_restorer("sr").restore(photograph[:30, :40], level=np.full((30, 40), 2.0))


def test_the_command_takes_a_mask(photograph, tmp_path, capsys):
    image = photograph[:80, :120]
    source, output, mask = (tmp_path / name for name in ("in.png", "out.png", "mask.png"))
    Image.fromarray(image).save(source)
    white_right = np.zeros((40, 60), np.uint16)  # half the size, 16 bits
    white_right[:, 30:] = 65535
    Image.fromarray(white_right).save(mask)
    save_weights(tmp_path / "w.safetensors", tiny_theta(tiny_config()), tiny_config())
    command = ["restore", source, "--weights", tmp_path / "w.safetensors", "--level", 40,
               "--level-map", mask, "--overwrite", "-o", output]  # fmt: skip
    report = tmp_path / "report.json"
    main(list(map(str, [*command, "--report", report])))
    assert json.loads(report.read_text())["files"][0]["mask"] == str(mask)
    found = np.asarray(Image.open(output)).astype(int)
    np.testing.assert_array_equal(found[:, :45], image[:, :45])  # unchanged where it is black
    whole = RESTORER.restore(image, level=40).astype(int)
    assert np.abs(found[:, 75:] - whole[:, 75:]).max() <= 1
    space = RESTORER.space
    shown = read_mask(mask, image.shape[:2])
    assert shown.shape == (80, 120) and shown[:, :55].max() == 0 and shown[:, 65:].min() == 1
    values = level_map(space.parse(40), np.linspace(0, 1, 11)[None])
    np.testing.assert_allclose(values[0, :, 0], np.linspace(0, 40, 11), atol=0.05)
    Image.fromarray(white_right[:, :20]).save(mask)
    for more, sentence in (([], "does not fit the proportions"), (["--sweep", "5,10"], "--sweep")):
        assert sentence in refuse(capsys, *command, *more)
    with pytest.raises(UserError, match=r"more than 0\.0001 megapixels"):
        read_mask(mask, image.shape[:2], limit=0.0001)
    seen = np.full((80, 120, 4), 255, np.uint8)
    seen[:40, :, 3] = 0
    Image.fromarray(seen).save(tmp_path / "seen through.png")
    with pytest.raises(UserError, match="transparent in places"):
        read_mask(tmp_path / "seen through.png", (80, 120))
    with pytest.raises(UserError, match="does not fit the proportions"):
        read_mask(mask, image.shape[:2])


def test_masks_of_parts():
    space = get_task("photo").space
    assert parse_masks("a.png", space) == "a.png"
    masks = parse_masks("noise=a.png, blur = b.png", space)
    assert masks == {"noise": "a.png", "blur": "b.png"}
    for text, message in (
        ("grain=a.png", "noise, jpeg, blur"),
        ("noise=", "PART=FILE"),
        ("noise=a.png,noise=b.png", "two masks"),
    ):
        with pytest.raises(UserError, match=message):
            parse_masks(text, space)


def test_each_part_follows_its_own_mask(tmp_path):
    space = get_task("photo").space
    mask = np.zeros((4, 6), np.uint8)
    mask[:, 3:] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    found = read_masks({"noise": tmp_path / "m.png"}, space, (4, 6))
    level = space.parse({"noise": 30, "jpeg": 40, "blur": 1})
    levels = level_map(level, found)
    np.testing.assert_allclose(levels[:, :3], np.broadcast_to([0, 40, 1], (4, 3, 3)), atol=1e-3)
    np.testing.assert_allclose(levels[:, 3:], np.broadcast_to([30, 40, 1], (4, 3, 3)), atol=1e-3)
    assert (blend_of_mask(found) == 1).all()


def test_arrays_of_other_libraries_are_images_maps_and_blends(photograph):
    image = photograph[:20, :30]
    levels, blend = smooth((20, 30), 5, 40).astype(np.float32), smooth((20, 30), 0, 1)
    expected = RESTORER.restore(image, level=levels, blend=blend)
    made = RESTORER.restore(jnp.asarray(image), level=jnp.asarray(levels), blend=jnp.asarray(blend))
    np.testing.assert_array_equal(made, expected)
    torch = pytest.importorskip("torch")
    parts = torch.tensor([20.0, 40.0, 1.0])
    assert get_task("photo").space.parse(parts) == get_task("photo").space.parse((20, 40, 1))
    image, levels, blend = (torch.tensor(each.copy()) for each in (image, levels, blend))
    np.testing.assert_array_equal(RESTORER.restore(image, level=levels, blend=blend), expected)
    differentiated = torch.zeros((20, 30), requires_grad=True)
    for wrong in ({"level": differentiated}, {"level": 5, "blend": differentiated}):
        with pytest.raises(UserError, match=r"is no array of numbers \(Can't call numpy"):
            RESTORER.restore(image, **wrong)
    with pytest.raises(UserError, match="The image is no array of numbers"):
        RESTORER.restore(differentiated, level=5)


def test_masks_beside_the_photographs_of_a_folder(photograph, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    image = photograph[:60, :90]
    for name in ("one.png", "two.png"):
        Image.fromarray(image).save(folder / name)
    white_right = np.zeros((60, 90), np.uint8)
    white_right[:, 45:] = 255
    Image.fromarray(white_right).save(folder / "one.mask.png")
    Image.fromarray(image).save(folder / "three.mask.png")  # a photograph: no three.png
    save_weights(tmp_path / "w.safetensors", tiny_theta(tiny_config()), tiny_config())
    command = ["restore", folder, "--weights", tmp_path / "w.safetensors", "--level", 40]
    main(list(map(str, [*command, "-o", tmp_path / "out"])))
    assert "mask one.mask.png" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"one.png", "two.png", "three.mask.png"}
    one, two = (np.asarray(Image.open(tmp_path / "out" / name)) for name in ("one.png", "two.png"))
    np.testing.assert_array_equal(one[:, :44], image[:, :44])
    reach = RESTORER.model.network.spec.reach
    assert np.abs(one[:, 45 + reach :].astype(int) - two[:, 45 + reach :]).max() <= 1
    assert (two[:, :44] != image[:, :44]).any()


def test_few_programs_serve_maps_of_many_sizes(photograph, request):
    model = make_model(photo_config())
    restorer = Restorer(model, random_theta(model), backend="jax")
    compiled, counts = [], []

    def note(event, duration, **_):
        del duration
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    request.addfinalizer(lambda: jax.monitoring.unregister_event_duration_listener(note))
    # Another test may have compiled the same.
    programs._shared.cache_clear()
    jax.clear_caches()
    for height, width in ((40, 50), (41, 53), (43, 54)):
        compiled.clear()
        levels = np.zeros((height, width, 3), np.float32)
        levels[..., 0], levels[..., 1] = np.linspace(0, 60, width), 100  # on a line
        restorer.restore(photograph[:height, :width], level=levels)
        counts.append(len(compiled))
    assert counts[0] > 0 and counts[1:] == [0, 0]
