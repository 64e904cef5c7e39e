"""The input pipeline, from a folder of photographs to training batches."""

import collections
import dataclasses
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hypernet_jax import UserError
from hypernet_jax.data import builders, prepare
from hypernet_jax.data.augmentation import change_colours, darken, soften
from hypernet_jax.data.builders import sub_images
from hypernet_jax.data.cache import CachedImages
from hypernet_jax.data.levels import BatchForm, LevelSampler
from hypernet_jax.data.lookalikes import held_out_copies, thumbnail
from hypernet_jax.data.pipeline import Crops, balanced, make_pipeline
from hypernet_jax.data.prepare import (
    check_crop_size,
    default_dataset,
    folders_of,
    open_split,
    prepare_dataset,
)
from hypernet_jax.degradations import jpeg
from hypernet_jax.images.reading import read_image
from hypernet_jax.tasks import TASKS

SAMPLER = LevelSampler(0.0, 100.0, 4)
# The protocol's chain: that of training also crops, at random.
COMPRESSED = TASKS["dejpeg"].protocols["colour"].degradation, TASKS["dejpeg"].space


@pytest.fixture
def folder(tmp_path, photographs):
    """Three good photographs, one of them in a subfolder."""
    folder = tmp_path / "photographs"
    (folder / "more").mkdir(parents=True)
    for name in ("coffee.png", "chelsea.png"):
        shutil.copy(photographs / name, folder)
    shutil.copy(photographs / "rocket.jpg", folder / "more")
    return folder


def pipeline(source, **options):
    names = [field.name for field in dataclasses.fields(Crops) if field.name in options]
    cut = Crops(**({"size": 24} | {name: options.pop(name) for name in names}))
    return make_pipeline(
        source, **({"seed": 3, "crops": 2, "cut": cut, "sampler": SAMPLER, "threads": 1} | options)
    )


def take(iterator, count):
    return [next(iterator) for _ in range(count)]


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        for name in batch:
            np.testing.assert_array_equal(batch[name], other[name])


def test_a_folder_becomes_a_dataset(folder, tmp_path):
    prepared = prepare_dataset(
        folder, tmp_path / "ds", size=128, stride=96, held_out=1, progress=False
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ds", "photographs"]
    source = open_split(tmp_path / "ds", "train")
    assert len(source) == prepared.sub_images["train"]
    validation = open_split(tmp_path / "ds", "validation")
    names = {record["photograph"].decode() for record in source}
    held_out = {record["photograph"].decode() for record in validation}
    assert names | held_out == {"coffee.png", "chelsea.png", "more/rocket.jpg"}
    assert len(held_out) == 1 and not names & held_out
    original = read_image(folder / next(iter(held_out)))
    parts = list(sub_images(original, 128, 96))
    stored = [record["image"] for record in validation]
    assert len(parts) == len(stored)
    assert {part.tobytes() for part in parts} == {image.tobytes() for image in stored}


def test_photographs_are_reduced(folder, tmp_path):
    """As Pillow does, but without rows and columns of incomplete cells."""
    options = {"reduce": 2, "size": 512, "stride": 512, "progress": False}
    prepare_dataset(folder, tmp_path / "ds", held_out=0, **options)
    for record in open_split(tmp_path / "ds", "train"):
        photograph = folder / record["photograph"].decode()
        height, width = (length // 2 for length in read_image(photograph).shape[:2])
        assert record["image"].shape == (height, width, 3)
        expected = np.asarray(Image.open(photograph).convert("RGB").reduce(2), int)
        assert np.abs(record["image"] - expected[:height, :width]).max() <= 1
    refusals = []
    with pytest.raises(UserError, match="None of the 3 images"):
        prepare_dataset(folder, tmp_path / "none", minimum=300, report=refusals.append, **options)
    assert len(refusals) == 3 and all("once reduced" in refusal for refusal in refusals)
    with pytest.raises(UserError, match="--reduce"):
        prepare_dataset(folder, tmp_path / "none", **options | {"reduce": 0})


def test_copies_look_alike_and_other_photographs_do_not(photographs):
    names = ("coffee.png", "chelsea.png", "rocket.jpg", "astronaut.png")
    thumbnails = {name: thumbnail(read_image(photographs / name)) for name in names}
    flat = np.full((50, 60, 3), 128, np.uint8)
    others = thumbnails | {"flat": thumbnail(flat), "black": thumbnail(0 * flat)}
    for name in (*names, "flat"):
        assert held_out_copies(others, {name}) == {}
    with Image.open(photographs / "coffee.png") as picture:
        copies = {
            "half": picture.resize((300, 190)),
            "grey": picture.convert("L"),
            "bright": picture.point(lambda value: min(255, int(1.3 * value))),
            "few colours": picture.quantize(32).convert("RGB"),
        }
    copied = {name: thumbnail(np.atleast_3d(np.asarray(each))) for name, each in copies.items()}
    found = held_out_copies(thumbnails | copied, {"coffee.png", "chelsea.png"})
    assert found == dict.fromkeys(copies, "coffee.png")


@given(st.integers(1, 300), st.integers(1, 300), st.integers(16, 64), st.data())
def test_sub_images_cover_every_pixel(height, width, size, data):
    stride = data.draw(st.integers(1, size).filter(lambda s: s > 8))
    index = np.arange(height * width).reshape(height, width, 1)
    parts = list(sub_images(index, size, stride))
    assert set(np.concatenate([part.ravel() for part in parts])) == set(index.ravel())
    assert {part.shape[0] for part in parts} == {min(size, height)}
    assert {part.shape[1] for part in parts} == {min(size, width)}


def test_what_appears_at_the_output_meanwhile_is_not_replaced(folder, tmp_path, monkeypatch):
    make = builders.Photographs.download_and_prepare

    def slowly(self, *args, **options):
        make(self, *args, **options)
        (tmp_path / "ds").mkdir(exist_ok=True)
        (tmp_path / "ds" / "mine.txt").write_text("mine")

    monkeypatch.setattr(builders.Photographs, "download_and_prepare", slowly)
    for overwrite, sentence in ((False, "already exists"), (True, "mine.txt, which is not part")):
        with pytest.raises(UserError, match=sentence):
            prepare_dataset(folder, tmp_path / "ds", overwrite=overwrite, progress=False)
        assert [path.name for path in (tmp_path / "ds").iterdir()] == ["mine.txt"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["ds", "photographs"]


def test_photographs_of_one_scene_leave_none_to_train_on(tmp_path, photographs):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(photographs / "coffee.png", tmp_path / "in" / name)
    said: list[str] = []
    with pytest.raises(UserError, match="--held-out 0"):
        prepare_dataset(tmp_path / "in", tmp_path / "ds", report=said.append, progress=False)
    assert len(said) == 1 and "looks like" in said[0]
    prepared = prepare_dataset(tmp_path / "in", tmp_path / "ds", held_out=0, progress=False)
    assert prepared.photographs == 2


def test_div2k_layout(tmp_path, photographs):
    for split in ("train", "valid"):
        folder = tmp_path / f"DIV2K_{split}_HR"
        folder.mkdir()
        for index, name in enumerate(["coffee.png", "chelsea.png"][: 2 if split == "train" else 1]):
            shutil.copy(photographs / name, folder / f"{index + 1:04d}.png")
    prepare_dataset(tmp_path, tmp_path / "ds", layout="div2k", progress=False)
    assert {r["photograph"].decode() for r in open_split(tmp_path / "ds", "train")} == {
        "DIV2K_train_HR/0001.png", "DIV2K_train_HR/0002.png",
    }  # fmt: skip
    assert {r["photograph"].decode() for r in open_split(tmp_path / "ds", "validation")} == {
        "DIV2K_valid_HR/0001.png"
    }
    with pytest.raises(UserError, match="DIV2K_train_HR"):
        prepare_dataset(tmp_path / "ds", tmp_path / "other", layout="div2k", progress=False)


def test_bad_images_are_named_and_skipped_or_refused(folder, tmp_path):
    (folder / "notes.png").write_text("not an image")
    (folder / "broken.jpg").write_bytes((folder / "more/rocket.jpg").read_bytes()[:20_000])
    Image.new("RGB", (400, 30)).save(folder / "small.png")
    messages = []
    prepared = prepare_dataset(
        folder, tmp_path / "ds", held_out=0, report=messages.append, progress=False
    )
    assert prepared.sub_images["train"] > 0 and len(messages) == 3
    for name in ("notes.png", "broken.jpg", "small.png"):
        assert sum(name in sentence for sentence in messages) == 1
    with pytest.raises(UserError, match=r"--strict"):
        prepare_dataset(folder, tmp_path / "strict", strict=True, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ds", "photographs"]


def test_mistakes_are_reported(tmp_path, folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="holds no image"):
        prepare_dataset(empty, tmp_path / "ds", progress=False)
    with pytest.raises(UserError, match="There is no folder"):
        prepare_dataset(tmp_path / "nowhere", tmp_path / "ds", progress=False)
    with pytest.raises(UserError, match="folder, div2k"):
        prepare_dataset(folder, tmp_path / "ds", layout="zip", progress=False)
    with pytest.raises(UserError, match="stride"):
        prepare_dataset(folder, tmp_path / "ds", size=64, stride=65, progress=False)
    (empty / "notes.png").write_text("not an image")
    with pytest.raises(UserError, match="None of the 1 images in"):
        prepare_dataset(empty, tmp_path / "ds", report=lambda _: None, progress=False)
    with pytest.raises(UserError, match="hypernet-jax prepare"):
        open_split(folder, "train")
    with pytest.raises(UserError, match="no dataset"):
        open_split(tmp_path / "nowhere", "train")


def test_an_existing_dataset_is_kept_unless_asked(folder, tmp_path):
    dataset = tmp_path / "ds"
    first = prepare_dataset(folder, dataset, held_out=0, progress=False)
    with pytest.raises(UserError, match="--overwrite"):
        prepare_dataset(folder, dataset, progress=False)
    second = prepare_dataset(folder, dataset, held_out=1, overwrite=True, progress=False)
    assert "validation" not in first.sub_images and "validation" in second.sub_images
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ds", "photographs"]
    (dataset / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match=r"holds mine\.txt"):
        prepare_dataset(folder, dataset, overwrite=True, progress=False)
    assert (dataset / "mine.txt").read_text() == "precious"


def test_a_dataset_that_cannot_be_replaced_is_put_back(folder, tmp_path, monkeypatch):
    dataset, move = tmp_path / "ds", os.replace
    prepare_dataset(folder, dataset, held_out=0, progress=False)
    before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}

    def replace(source, target):
        if target == dataset and source.name != "replaced":
            raise KeyboardInterrupt
        move(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(folder, dataset, held_out=1, overwrite=True, progress=False)
    assert {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ds", "photographs"]


def test_photographs_are_never_overwritten(folder, tmp_path):
    before = sorted(path for path in tmp_path.rglob("*"))
    for output in (folder, folder / "more", tmp_path):
        with pytest.raises(UserError, match=r"holds (the photographs|rocket\.jpg)"):
            prepare_dataset(folder, output, overwrite=True, progress=False)
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_file_names_that_are_not_utf8(folder, tmp_path):
    shutil.copy(folder / "coffee.png", os.fsencode(folder) + b"/caf\xe9.png")
    prepare_dataset(folder, tmp_path / "ds", held_out=0, progress=False)
    names = {record["photograph"].decode() for record in open_split(tmp_path / "ds", "train")}
    assert "caf?.png" in names


def test_a_dataset_too_small_for_its_crops_is_told_at_once(folder, tmp_path):
    Image.new("RGB", (400, 100)).save(folder / "low.png")
    prepare_dataset(folder, tmp_path / "ds", held_out=0, progress=False)
    check_crop_size(tmp_path / "ds", 100)
    with pytest.raises(UserError, match="--minimum 101"):
        check_crop_size(tmp_path / "ds", 101)


def test_default_dataset_is_made_once(default_data, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(default_data.parent.parent))
    before = default_data.stat().st_mtime_ns
    assert default_dataset() == default_data
    assert default_data.stat().st_mtime_ns == before
    assert len(open_split(default_data, "train")) > 20
    assert len(open_split(default_data, "validation")) > 4


def test_batches_do_not_hang_on_threads(default_data):
    source = open_split(default_data, "train")
    assert_same(take(pipeline(source, threads=1), 6), take(pipeline(source, threads=4), 6))
    other = take(pipeline(source, seed=4), 1)[0]
    assert (other["clean"] != take(pipeline(source), 1)[0]["clean"]).any()


def test_other_colours(default_data, photograph):
    rng = np.random.default_rng(0)
    shown = [change_colours(rng, photograph[:64, :64]) for _ in range(40)]
    assert all(one.dtype == np.uint8 and one.shape == (64, 64, 3) for one in shown)
    # Nothing is clipped at white, and bright areas stay brighter than dark ones.
    assert np.mean([(one == 255).mean() for one in shown]) < 0.05
    green = photograph[:64, :64, 1].ravel()
    related = [abs(np.corrcoef(green, one.mean(-1).ravel())[0, 1]) for one in shown]
    assert min(related) > 0.8
    order = {tuple(np.argsort(one.mean((0, 1)))) for one in shown}
    assert len(order) > 3
    clean = take(pipeline(open_split(default_data, "train"), recoloured=0.5, crops=40), 1)[0]
    plain = take(pipeline(open_split(default_data, "train"), crops=40), 1)[0]
    changed = (clean["clean"] != plain["clean"]).any((1, 2, 3)).mean()
    assert 0.3 < changed < 0.7


def test_a_share_of_the_crops_is_soft(default_data):
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (64, 64, 3), np.uint8)
    for _ in range(5):
        soft = soften(rng, sharp)
        assert soft.dtype == np.uint8 and soft.shape == sharp.shape
        assert soft.astype(float).std() < 0.95 * sharp.std()
        assert abs(soft.mean() - sharp.mean()) < 1
    source = open_split(default_data, "train")
    clean = take(pipeline(source, softened=0.5, crops=40), 1)[0]["clean"]
    plain = take(pipeline(source, crops=40), 1)[0]["clean"]
    assert 0.3 < (clean != plain).any((1, 2, 3)).mean() < 0.7


def test_a_share_of_the_crops_is_dark(default_data):
    rng = np.random.default_rng(0)
    bright = rng.integers(0, 256, (64, 64, 3), np.uint8)
    light = [darken(rng, bright).mean() / bright.mean() for _ in range(200)]
    assert 0.05 < min(light) < 0.08 and 0.5 < max(light) < 0.61
    assert np.mean(np.log(light)) == pytest.approx(np.log(0.06 * 0.6) / 2, abs=0.15)
    source = open_split(default_data, "train")
    dark = take(pipeline(source, darkened=0.5, crops=40), 1)[0]["clean"]
    plain = take(pipeline(source, crops=40), 1)[0]["clean"]
    darker = dark.mean((1, 2, 3)) < 0.7 * plain.mean((1, 2, 3))
    assert 0.3 < darker.mean() < 0.7


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=8), st.floats(0.01, 1.0))
def test_large_folders_give_no_more_than_their_share(counts, largest):
    shares = np.array(balanced(counts, largest))
    assert shares.sum() == pytest.approx(1.0)
    allowed = max(largest, 1 / len(counts))
    assert shares.max() <= allowed + 1e-6
    below = shares < allowed - 1e-6
    if below.any():  # in proportion
        ratios = shares[below] / np.array(counts)[below]
        assert ratios.max() == pytest.approx(ratios.min())
        assert ratios.min() >= 1 / np.sum(counts) - 1e-9


def test_folders_are_balanced(tmp_path):
    rng = np.random.default_rng(0)
    for index, (name, count) in enumerate({"large": 18, "small": 3, "other": 3}.items()):
        for number in range(count):
            path = tmp_path / "photos" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = rng.integers(0, 8, (96, 96, 3)) + 80 * index
            Image.fromarray(image.astype(np.uint8)).save(path)
    prepare_dataset(tmp_path / "photos", tmp_path / "ds", held_out=0, progress=False)
    groups = folders_of(tmp_path / "ds")
    source = open_split(tmp_path / "ds", "train")
    for group, record in zip(groups, source, strict=True):
        assert record["image"].mean() // 80 == ["large", "small", "other"].index(group)
    options = {"largest_share": 0.4, "groups": groups, "crops": 200}
    batch = take(pipeline(source, **options), 1)[0]
    seen = np.bincount(batch["clean"].mean((1, 2, 3)).astype(int) // 80, minlength=3) / 200
    np.testing.assert_allclose(seen, [0.4, 0.3, 0.3], atol=0.02)
    resumed = pipeline(source, **options)
    resumed.set_state(pipeline(source, **options).get_state())
    assert_same(take(resumed, 1), [batch])
    (tmp_path / "ds" / "sub_images.json").write_text('{"smallest_side": 96}')
    with pytest.raises(UserError, match="largest_share=1"):
        folders_of(tmp_path / "ds")


def test_batches_go_on_where_they_stopped(default_data):
    source = open_split(default_data, "train")
    whole = take(pipeline(source), 7)
    first = pipeline(source)
    take(first, 3)
    resumed = pipeline(source)
    resumed.set_state(first.get_state())
    assert_same(take(resumed, 4), whole[3:])


def test_batch_contents(default_data):
    source = open_split(default_data, "train")
    sampler = LevelSampler(5, 95, 3)
    batch = take(pipeline(source, degradation=COMPRESSED, sampler=sampler), 1)[0]
    assert batch["clean"].shape == (2, 24, 24, 3) and batch["clean"].dtype == np.uint8
    assert batch["levels"].shape == (3, 1) and batch["levels"].dtype == np.float32
    assert batch["degraded"].shape == (3, 2, 24, 24, 3)
    for level, degraded in zip(batch["levels"], batch["degraded"], strict=True):
        np.testing.assert_array_equal(degraded, jpeg(None, batch["clean"], level[0]))
    grey = take(pipeline(source, colours=1), 1)[0]
    assert grey["clean"].shape == (2, 24, 24, 1)


def test_a_share_of_the_crops_loses_its_colour(default_data):
    def clean(**options):
        source = open_split(default_data, "train")
        (batch,) = take(pipeline(source, crops=50, size=16, **options), 1)
        return batch["clean"]

    def without_colour(crops):
        return (crops == crops[..., :1]).all(axis=(1, 2, 3))

    assert not without_colour(clean()).any()
    # Two standard deviations of the mean of 50 draws around 0.3.
    assert 0.17 < without_colour(clean(grey=0.3)).mean() < 0.43
    grey, colour = clean(grey=1.0), clean()
    assert without_colour(grey).all()
    np.testing.assert_allclose(grey[0, ..., 0], colour[0] @ [0.299, 0.587, 0.114], atol=1)
    assert clean(grey=1.0, colours=1).shape[-1] == 1


def test_cache_decodes_once(default_data):
    """The cache only reduces the number of decodings, and respects its capacity."""
    source = open_split(default_data, "train")
    decoded = collections.Counter()

    class Counted:
        def __len__(self):
            return len(source)

        def __getitem__(self, index):
            decoded[index] += 1
            return source[index]

    batches = 3 * len(source) // 2  # three epochs of two crops each
    assert_same(
        take(pipeline(CachedImages(Counted(), capacity=2**30, name="it"), threads=1), batches),
        take(pipeline(source, threads=1), batches),
    )
    assert set(decoded.values()) == {1} and len(decoded) == len(source)

    images = [np.full((4, 4, 3), i, np.uint8) for i in range(3)]
    cached = CachedImages([{"image": image} for image in images], capacity=2 * 48, name="it")
    for index in (2, 0, 1, 2, 0, 1):
        np.testing.assert_array_equal(cached[index]["image"], images[index])
    assert cached[2]["image"] is cached[2]["image"] and not cached[2]["image"].flags.writeable
    assert cached.nbytes == 2 * 48


def test_exif_data_that_cannot_be_read_is_passed_over(tmp_path, photographs):
    picture = Image.open(photographs / "coffee.png").crop((0, 0, 40, 30))
    picture.save(tmp_path / "odd.png", exif=b"no EXIF data")
    np.testing.assert_array_equal(read_image(tmp_path / "odd.png"), np.asarray(picture))


def test_running_out_of_memory_is_no_damage():
    class Full(list):
        def __getitem__(self, index):
            raise MemoryError

    with pytest.raises(UserError, match=r"not enough memory .*lower config\.data\.cache_gib"):
        CachedImages(Full(), capacity=0, name="it")[0]


def test_processes_share_without_overlap(default_data):
    source = open_split(default_data, "train")
    source = [{"image": np.full((24, 24, 3), i, np.uint8)} for i in range(len(source) // 4 * 4)]
    whole = take(pipeline(source, crops=4), len(source) // 4)
    shares = [
        take(pipeline(source, process=process, processes=2), len(source) // 4)
        for process in range(2)
    ]
    seen = [batch["clean"][:, 0, 0, 0] for share in shares for batch in share]
    assert sorted(np.concatenate(seen)) == list(range(len(source)))
    # In each step the processes together get the crops and levels of a single process.
    for one, *parts in zip(whole, *shares, strict=True):
        assert sorted(np.concatenate([part["ids"] for part in parts])) == sorted(one["ids"])
        for part in parts:
            np.testing.assert_array_equal(part["levels"], one["levels"])


def test_levels_are_stratified_or_fixed():
    rng = np.random.default_rng(0)
    for _ in range(50):
        levels = SAMPLER(rng, crops=2)
        assert [int(level // 25) for level in levels[:, 0]] == [0, 1, 2, 3]
        low = LevelSampler(0.0, 100.0, 4, power=2.0)(rng, crops=2)
        assert [int(np.sqrt(level) // 2.5) for level in low[:, 0]] == [0, 1, 2, 3]
        some = LevelSampler(1.5, 5.2, 40, whole=0.5)(rng, crops=2)[:, 0]
        assert 5 < sum(some == np.round(some)) < 35 and min(some) >= 1.5
        assert all(np.isin(LevelSampler(1.5, 5.2, 4, whole=1.0)(rng, crops=2), [2, 3, 4, 5]))
    fixed = LevelSampler(0, 1, 9, fixed=((15.0,), (35.0,)))
    np.testing.assert_array_equal(fixed(rng, crops=2), np.float32([[15], [35]]))


@pytest.mark.parametrize("per", ["step", "crop"])
def test_each_part_of_a_level_is_stratified_and_may_be_absent(per):
    rng = np.random.default_rng(0)
    options = {"power": (1.0, 2.0), "neutral": (0.0, 100.0), "form": BatchForm(per=per)}
    sampler = LevelSampler((0.0, 10.0), (80.0, 50.0), 8, absent=(0.0, 0.25), **options)
    drawn = np.stack([sampler(rng, crops=3) for _ in range(200)])
    assert drawn.shape == (200, 8, 3, 2) if per == "crop" else (200, 8, 2)
    noise, quality = (np.moveaxis(drawn[..., part], 1, -1) for part in (0, 1))
    np.testing.assert_array_equal(noise // 10, np.broadcast_to(np.arange(8), noise.shape))
    absent = quality == 100
    assert 0.2 < absent.mean() < 0.3
    present = quality[~absent]
    assert present.min() >= 10 and present.max() <= 50
    # Uniform in the square root of the range, and in no step in the same order as the noise.
    assert np.sqrt((present - 10) / 40).mean() == pytest.approx(0.5, abs=0.02)
    together = np.corrcoef(noise[~absent], present)[0, 1]
    assert abs(together) < 0.05
    # The first part draws the same as a single part.
    alone = LevelSampler(0.0, 80.0, 8, form=BatchForm(per=per))
    first, both = (each(np.random.default_rng(1), crops=3) for each in (alone, sampler))
    np.testing.assert_array_equal(first[..., 0], both[..., 0])


def test_levels_per_crop(default_data):
    """Each crop has its own levels, whatever the number of processes."""
    source = open_split(default_data, "train")
    sampler = LevelSampler(5, 95, 3, form=BatchForm(per="crop"))
    options = {"sampler": sampler, "degradation": COMPRESSED}
    whole = take(pipeline(source, crops=4, **options), 1)[0]
    assert whole["levels"].shape == (3, 4, 1)
    for stratum, levels in enumerate(whole["levels"][..., 0]):
        assert all(levels // 1 >= 5 + 30 * stratum) and all(levels <= 35 + 30 * stratum)
        assert len(set(levels)) == 4
    for process in range(2):
        part = take(pipeline(source, process=process, processes=2, **options), 1)[0]
        for name, axis in {"clean": 0, "levels": 1, "degraded": 1}.items():
            own = np.take(whole[name], [process, process + 2], axis)
            np.testing.assert_array_equal(part[name], own)
    for crop in range(4):
        expected = jpeg(None, whole["clean"][crop], whole["levels"][1, crop, 0])
        np.testing.assert_array_equal(whole["degraded"][1, crop], expected)


def test_own_crops(default_data):
    """Every level has its own crops, with the same levels for any number of processes."""
    source = open_split(default_data, "train")
    sampler = LevelSampler(5, 95, 3, form=BatchForm(own_crops=True))
    options = {"sampler": sampler, "degradation": COMPRESSED}
    whole = take(pipeline(source, crops=4, **options), 1)[0]
    assert whole["clean"].shape == whole["degraded"].shape == (3, 4, 24, 24, 3)
    assert sorted(whole["ids"].ravel()) == list(range(12))
    for clean, level, degraded in zip(
        whole["clean"], whole["levels"][:, 0], whole["degraded"], strict=True
    ):
        np.testing.assert_array_equal(degraded, jpeg(None, clean, level))
    for process in range(2):
        part = take(pipeline(source, process=process, processes=2, **options), 1)[0]
        np.testing.assert_array_equal(part["levels"], whole["levels"])
        np.testing.assert_array_equal(part["degraded"], whole["degraded"][:, process::2])


def test_a_crop_larger_than_the_sub_images_is_reported(default_data):
    source = open_split(default_data, "train")
    with pytest.raises(UserError, match="crop_size=999"):
        next(pipeline(source, size=999))


def test_a_dataset_that_appears_meanwhile_stays(tmp_path):
    made, other = tmp_path / "made", tmp_path / "other"
    for folder in (made, other):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    with pytest.raises(UserError, match="already exists"):
        prepare._move_dataset(made, other, None)
    assert (other / "file").read_text() == "other" and (made / "file").exists()
    prepare._move_dataset(made, other, tmp_path / "replaced")
    assert (other / "file").read_text() == "made"
    assert (tmp_path / "replaced/file").read_text() == "other"
