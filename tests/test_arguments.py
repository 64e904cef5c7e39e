"""Mistakes in the Python interface are `UserError`s; unusual but valid arguments work."""

import copy
import pickle
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from hypernet_jax import Restorer, UserError
from hypernet_jax.images.writing import Encoding
from hypernet_jax.photographs.restoring import Options, restore_file
from hypernet_jax.tasks import TASKS

from .models import RESTORER, tiny_config, tiny_restorer, tiny_theta

IMAGE = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"level": None}, {"level": "much"}, {"level": [1, 2]}, {"level": 10**400}, {"level": 1j},
        {"level": np.zeros(3)}, {"level": object()}, {"level": float("nan")}, {"level": b"\xff"},
        {"level": True}, {"level": np.True_}, {"blend": True},
        {"level": TASKS["sr"].space.parse(2)},
        {"level": TASKS["photo"].space.parse({"noise": 25, "jpeg": 10})},
        {"image": Image.fromarray(IMAGE).convert("P")}, {"image": Path("photo.png")},
        {"image": Image.fromarray(IMAGE).convert("YCbCr")},
        {"blend": "half"}, {"blend": None}, {"blend": float("nan")}, {"blend": [1]}, {"blend": 2},
        {"window": 3}, {"window": (slice(0, 3),)}, {"window": (0, 3)}, {"window": "all"},
        {"window": (slice(0, 3), slice("a", "b"))}, {"window": (slice(0.5, 3), slice(0, 3))},
        {"window": (slice(0, 9, 2), slice(0, 3))}, {"window": (slice(9, 3, -1), slice(0, 3))},
        {"window": (slice(50, 60), slice(0, 3))}, {"progress": 3},
        {"image": "photo.png"}, {"image": None}, {"image": [[1, 2], [3]]}, {"image": IMAGE > 3},
        {"image": IMAGE.astype(complex)}, {"image": IMAGE.astype(np.int16)}, {"image": 5.0},
        {"image": np.full((4, 4), np.nan)}, {"image": IMAGE[..., :2]}, {"image": IMAGE[:0]},
        {"image": np.array([["a"]])}, {"image": np.zeros((2, 2, 2, 2, 3), np.uint8)},
    ],
)  # fmt: skip
def test_wrong_arguments_of_restore(wrong):
    with pytest.raises(UserError) as error:
        RESTORER.restore(**({"image": IMAGE, "level": 20} | wrong))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"memory": "all"}, {"memory": None}, {"memory": float("nan")}, {"memory": -1},
        {"backend": "tensorrt"}, {"backend": None}, {"backend": []},
    ],
)  # fmt: skip
def test_wrong_arguments_of_a_restorer(wrong):
    with pytest.raises(UserError):
        Restorer(RESTORER.model, tiny_theta(tiny_config()), **wrong)


def test_wrong_arguments_of_apply_files_and_names(tmp_path):
    batch = IMAGE[None]
    for images, message in (
        ("x", "a text, not an array"),
        (None, "not object"),
        (IMAGE / 255, "must be"),
        (batch, "must be floats in"),
        (np.uint16(batch), "must be floats in"),
        (np.full(batch.shape, np.nan), "not finite"),
        (np.zeros((1, 4, 4, 2)), "1 or 3 channels"),
        (np.zeros((0, 4, 4, 3)), "must be"),
    ):
        with pytest.raises(UserError, match=message):
            RESTORER.apply(images, level=20)
    for name in (3, None, "nothing", tmp_path):
        with pytest.raises(UserError):
            Restorer.from_pretrained(name)
    with pytest.raises(UserError, match="put all of them into options"):
        restore_file(RESTORER, "in.png", "out.png", Options(5.0), level=10)
    with pytest.raises(UserError, match="no path"):
        restore_file(RESTORER, None, "out.png", level=10)


@pytest.mark.parametrize(
    "size",
    [None, 3, (1.5, 2), "ab", (-1, 4), (0, 4), (1, 2, 3), (10**12, 10**12), (float("nan"), 1)],
)
def test_what_is_no_size(size):
    with pytest.raises(UserError):
        RESTORER.restored_size(size, 5)
    with pytest.raises(UserError):
        RESTORER.restored_size((4, 4), "x")
    assert tiny_restorer("sr").restored_size(np.array([4, 6]), 1.5) == (6, 9)


def test_wrong_options_of_files(tmp_path):
    source, output = tmp_path / "in.png", tmp_path / "out.png"
    for wrong in (
        lambda: restore_file(None, source, output, level=5),
        lambda: restore_file(RESTORER, source, output, {"level": 1}),
        lambda: restore_file(RESTORER, source, output, Options(5.0), overwrite=True),
        lambda: restore_file(RESTORER, "a\0b.png", output, level=5),
        lambda: restore_file(RESTORER, source, "a\ud800.png", level=5),
        lambda: restore_file(RESTORER, source, "a" * 300 + ".png", level=5),
        lambda: Options(5.0, encoding="png"),
        lambda: Options("auto", estimator=3),
        lambda: Options(5.0, limit="much"),
        lambda: Encoding("x"),
        lambda: Encoding(True),
        lambda: Options(5.0, level_map=np.ones((200, 300))),
        lambda: Options(5.0, level_map={"noise": 3}),
        lambda: restore_file(RESTORER, np.zeros((200, 300)), output, level=5),
        lambda: Restorer(RESTORER.model, tiny_theta(tiny_config()), memory=True),
        lambda: Restorer.from_pretrained("a" * 300),
        lambda: Restorer(None, None),
        lambda: Restorer(RESTORER.model, None),
        lambda: Restorer(RESTORER.model, tiny_theta(tiny_config()), self_ensemble=np.ones(2)),
    ):
        with pytest.raises(UserError) as error:
            wrong()
        assert len(str(error.value)) < 300


def test_images_of_a_batch_do_not_change_each_other():
    """A grey image stored as RGB stays grey among images with colour."""
    grey = np.repeat(IMAGE[..., :1], 3, axis=-1)
    batch = np.stack([IMAGE, grey, IMAGE[::-1], grey[::-1]])
    seen: list[tuple[int, int]] = []
    together = RESTORER.restore(batch, level=25, progress=lambda *done: seen.append(done))
    assert together.shape == batch.shape and together.dtype == batch.dtype
    for one, restored in zip(batch, together, strict=True):
        np.testing.assert_array_equal(restored, RESTORER.restore(one, level=25))
    assert (together[1] == together[1][..., :1]).all()
    pixels = batch[..., 0].size
    assert seen == sorted(seen) and seen[-1] == (pixels, pixels)
    with pytest.raises(UserError, match="for one image only"):
        RESTORER.restore(batch[:2], level="auto")
    larger = tiny_restorer("sr").restore(batch, level=2)
    assert larger.shape == (4, 18, 24, 3) and (larger[3] == larger[3][..., :1]).all()


def test_images_of_pillow():
    for image in (Image.fromarray(IMAGE), Image.fromarray(IMAGE[..., 0])):
        np.testing.assert_array_equal(
            RESTORER.restore(image, level=20), RESTORER.restore(np.asarray(image), level=20)
        )


def test_a_level_just_out_of_range_is_told_with_its_digits():
    with pytest.raises(UserError, match=r"level 100\.0001 is out of range"):
        RESTORER.restore(IMAGE, level=100.0001)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32, np.float64])
def test_arrays_of_the_other_byte_order(dtype):
    image = IMAGE.astype(dtype) * 257 if dtype is np.uint16 else (IMAGE / 255).astype(dtype)
    other = image.astype(np.dtype(dtype).newbyteorder())
    np.testing.assert_array_equal(
        RESTORER.restore(other, level=20), RESTORER.restore(image, level=20)
    )


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))]
)
def test_restorers_can_be_copied_and_pickled(task, again):
    restorer = tiny_restorer(task)
    level = TASKS[task].starting_level
    made = again(restorer)
    assert made is not restorer and made.space == restorer.space
    np.testing.assert_array_equal(
        made.restore(IMAGE, level=level), restorer.restore(IMAGE, level=level)
    )


def test_a_task_of_ones_own_is_not_taken_for_a_shipped_one():
    import dataclasses

    own = dataclasses.replace(TASKS["denoise"], estimate=None)
    assert pickle.loads(pickle.dumps(own)) == own
    assert pickle.loads(pickle.dumps(TASKS["denoise"])) == TASKS["denoise"]


def test_a_margin_trades_exactness_at_the_edges_of_tiles_for_time(photograph):
    window, reach = np.s_[40:80, 50:110], RESTORER.model.network.spec.reach
    exact = RESTORER.restore(photograph, level=25, window=window)
    for margin in (reach, 1000, None):
        same = RESTORER.restore(photograph, level=25, window=window, margin=margin)
        np.testing.assert_array_equal(same, exact)
    quick = RESTORER.restore(photograph, level=25, window=window, margin=0).astype(int)
    np.testing.assert_array_equal(
        quick[reach:-reach, reach:-reach], exact[reach:-reach, reach:-reach]
    )
    assert (quick != exact).any()
    for margin in (-1, 2.5, "wide", True):
        with pytest.raises(UserError, match="The margin"):
            RESTORER.restore(photograph, level=25, margin=margin)


def test_images_of_training_and_parameters_of_ones_own():
    single = IMAGE / np.float32(255)
    short = jnp.asarray(single, jnp.bfloat16)
    expected = RESTORER.restore(np.asarray(short, np.float32), level=20)
    np.testing.assert_array_equal(RESTORER.restore(short, level=20), expected)
    # What is done with the parameters changes nothing that the restorer keeps.
    before = tiny_restorer().restore(IMAGE, level=20)
    restorer = tiny_restorer()
    restorer.params(20)["head"]["bias"] = np.full(4, 9.0)
    np.testing.assert_array_equal(restorer.restore(IMAGE, level=20), before)
    with pytest.raises(UserError, match=r"not of this model: .* is \(2, 3, 3, 1, 4\), and"):
        Restorer(RESTORER.model, tiny_theta(tiny_config(colours=1)))
