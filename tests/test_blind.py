"""Blind estimation of noise, and of JPEG quality from the file and from pixels."""

import shutil
import subprocess

import numpy as np
import pytest
import skimage.data
from PIL import Image

from hypernet_jax.blind.jpeg_tables import quality_of_file
from hypernet_jax.cli.main import main
from hypernet_jax.degradations import jpeg
from hypernet_jax.errors import UserError
from hypernet_jax.evaluation.measure import noise_key
from hypernet_jax.inference.requests import resolve_level
from hypernet_jax.inference.restorer import Restorer
from hypernet_jax.levels import AUTO
from hypernet_jax.tasks import TASKS

DENOISE, DEJPEG, SR = (TASKS[name] for name in ("denoise", "dejpeg", "sr"))


def noisy(image, sigma):
    return np.asarray(DENOISE.degradation(noise_key(0, "image"), image, {"noise": sigma}))


# Single channels of these photographs already have grain, of sigma 2 to 4.
@pytest.mark.parametrize(
    ("name", "sigma"),
    [(name, sigma) for name in ("coffee", "chelsea") for sigma in (2, 10, 25, 50)]
    + [("coffee in grey", 25), ("coffee in grey", 50)],
)
def test_noise_of_real_photographs(name, sigma):
    image = getattr(skimage.data, name.split()[0])()
    image = image[..., 1:2] if name.endswith("grey") else image
    found = DENOISE.estimate_level(noisy(image, sigma))
    assert found.parts["noise"] == pytest.approx(sigma, abs=1.0 + 0.04 * sigma)


def test_noise_of_a_grey_image_saved_in_colour():
    grey = noisy(skimage.data.coffee()[..., 1:2], 25)
    found = DENOISE.estimate_level(grey).parts["noise"]
    colour = np.repeat(grey, 3, axis=-1)
    assert DENOISE.estimate_level(colour).parts["noise"] == pytest.approx(found, abs=1e-3)
    colour[0, 0, 0] += 1
    assert DENOISE.estimate_level(colour).parts["noise"] == pytest.approx(found, abs=0.1)
    # Toned, and so darker by a tenth; then rounded again.
    sepia = np.round(colour * np.array([1.0, 0.92, 0.78]))
    assert DENOISE.estimate_level(sepia).parts["noise"] == pytest.approx(0.9 * found, rel=0.1)
    # Independent noise in each channel counts as colour.
    colourful = noisy(np.repeat(skimage.data.coffee()[..., 1:2], 3, axis=-1), 25)
    assert DENOISE.estimate_level(colourful).parts["noise"] == pytest.approx(25, abs=2)


def test_noise_of_a_small_image_is_refused_with_a_sentence(photograph):
    with pytest.raises(UserError, match="20x9 pixels that are examined are too few"):
        DENOISE.estimate_level(photograph[:9, :20])


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_quality_in_the_tables_of_a_file(mode, photograph, tmp_path):
    picture = Image.fromarray(photograph[:64, :64]).convert(mode)
    path = tmp_path / "image.jpg"
    for quality in range(1, 101):
        picture.save(path, quality=quality)
        assert quality_of_file(path) == (quality, True)


def test_quality_in_the_tables_of_a_file_of_any_size(photograph, tmp_path, monkeypatch):
    Image.fromarray(photograph[:64, :64]).save(tmp_path / "image.jpg", quality=37)
    # Fewer pixels than the image has, more than the one that the standard tables are read from.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "image.jpg")
    assert quality_of_file(tmp_path / "image.jpg") == (37, True)


def has_imagemagick():
    if shutil.which("convert") is None:
        return False
    process = subprocess.run(["convert", "-version"], capture_output=True, text=True, check=False)
    return "Version: ImageMagick" in process.stdout


@pytest.mark.skipif(not has_imagemagick(), reason="ImageMagick is not installed")
def test_quality_of_imagemagick(photograph, tmp_path):
    Image.fromarray(photograph[:32, :32]).save(tmp_path / "image.png")
    command = ["convert", tmp_path / "image.png"]
    for quality in range(1, 101):
        command += ["-quality", str(quality), "-write", tmp_path / f"{quality}.jpg"]
    subprocess.run([*command, "null:"], check=True)
    for quality in range(1, 101):
        assert quality_of_file(tmp_path / f"{quality}.jpg") == (quality, True)


def test_tables_that_are_not_libjpegs(photograph, tmp_path):
    path = tmp_path / "image.jpg"
    picture = Image.fromarray(photograph[:64, :64])
    picture.save(path, quality=40)
    tables = [list(table) for table in Image.open(path).quantization.values()]
    tables[0][5] += 1
    picture.save(path, qtables=tables)
    found = DEJPEG.estimate_level(photograph, source=path)
    assert found.parts["jpeg"] == 40 and "not libjpeg" in found.how["jpeg"]


@pytest.mark.parametrize("quality", [4, 10, 35, 60, 85])
def test_quality_from_pixels(quality, photograph):
    found = DEJPEG.estimate_level(jpeg(None, photograph, quality).astype(np.float32))
    assert found.parts["jpeg"] == quality
    grey = photograph[..., 1:2]
    assert DEJPEG.estimate_level(jpeg(None, grey, quality)).parts["jpeg"] == quality


def test_what_was_never_compressed_is_reported(photograph):
    with pytest.raises(UserError, match="no trace of JPEG"):
        DEJPEG.estimate_level(noisy(photograph, 5))
    with pytest.raises(UserError, match="no trace of JPEG"):
        DEJPEG.estimate_level(photograph[:3, :3])


def test_the_scale_is_the_users():
    with pytest.raises(UserError, match="sr cannot be estimated"):
        SR.estimate_level(np.zeros((64, 64, 3)))


def test_level_auto_tells_what_it_chose(photograph, tmp_path, capsys):
    source, output = tmp_path / "noisy.png", tmp_path / "restored.png"
    Image.fromarray(noisy(photograph[:120, :160], 25).astype(np.uint8)).save(source)
    main(["restore", str(source), "--task=denoise", "--level=auto", "-o", str(output)])
    out, err = capsys.readouterr()
    assert "estimated from the pixels" in out + err
    assert output.exists()


def test_quality_from_the_middle_of_a_large_image(photograph):
    """The analysed part starts at a block of subsampled chrominance."""
    large = np.tile(photograph, (6, 4, 1))[:2090, :2090]
    level, _ = resolve_level(DEJPEG, AUTO, jpeg(None, large, 12).astype(np.uint8), None)
    assert float(level) == 12


def test_an_array_with_its_level_estimated(photograph):
    rng = np.random.default_rng(0)
    noisy = np.clip(photograph[:90, :120] + rng.normal(0, 20, (90, 120, 3)), 0, 255)
    noisy = noisy.astype(np.uint8)
    for task, level in (("denoise", "auto"), ("photo", "auto"), ("photo", {"noise": "auto"})):
        restorer = Restorer.from_pretrained(task)
        found, _ = resolve_level(restorer.model.task, level, noisy, None)
        expected = restorer.restore(noisy, level=found)
        np.testing.assert_array_equal(restorer.restore(noisy, level=level), expected)
    with pytest.raises(UserError, match="one at a time"):
        restorer.restore(np.stack([noisy, noisy]), level="auto")
    with pytest.raises(UserError, match="cannot be estimated"):
        Restorer.from_pretrained("sr").restore(noisy, level="auto")


def test_only_what_was_estimated_is_said_to_be(photograph, tmp_path):
    Image.fromarray(photograph).save(tmp_path / "a.jpg", quality=60)
    photo, source = TASKS["photo"], tmp_path / "a.jpg"
    for level, expected in (
        ("noise=auto,jpeg=30", "noise estimated from the pixels"),
        ("noise=3,jpeg=auto", "jpeg from the file's own tables"),
        ("auto", "noise and blur estimated from the pixels, jpeg from the file's own tables"),
    ):
        _, how = resolve_level(photo, level, photograph, source)
        assert how == expected
    assert resolve_level(photo, "auto", photograph, None)[1] == "estimated from the pixels"


def test_estimates_are_limited_to_the_range():
    found = {"noise": 83.0, "jpeg": 0.5, "blur": -1.0}
    assert TASKS["photo"].space.request("auto").level(found).values == (75, 1, 0)
    with pytest.raises(UserError, match="out of range"):
        TASKS["photo"].space.request("auto").level(found | {"noise": float("nan")})


def test_a_given_part_is_kept_beside_an_estimator():
    pixels = np.zeros((32, 32, 3), np.uint8)
    task = TASKS["photo"]
    level, _ = resolve_level(
        task, "noise=auto,jpeg=60", pixels, None, estimator=lambda image: (5, 50, 1)
    )
    assert level.values[:2] == (5, 60)
