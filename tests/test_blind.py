"""Blind estimation of noise, and of JPEG quality from the file and from pixels."""

import io
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
    found = TASKS["photo"].estimate_level(photograph, source=path)
    assert found.parts["jpeg"] == 40 and "nearest" in found.how["jpeg"]


def test_tables_in_any_order(photograph, tmp_path):
    path = tmp_path / "image.jpg"
    Image.fromarray(photograph[:64, :64]).save(path, quality=60)
    content = path.read_bytes()
    first, second = (at for at in range(len(content)) if content[at : at + 2] == b"\xff\xdb")
    length = 2 + int.from_bytes(content[first + 2 : first + 4], "big")
    tables = content[first : first + length], content[second : second + length]
    swapped = content[:first] + tables[1] + tables[0] + content[second + length :]
    assert second == first + length and swapped != content
    path.write_bytes(swapped)
    assert quality_of_file(path) == (60, True)
    path.write_bytes(content.replace(tables[1], tables[1][:5] + tables[0][5:]))
    assert quality_of_file(path) == (60, True)  # the table of luminance for chrominance as well
    path.write_bytes(content.replace(tables[0], tables[0][:20] + b"\0" + tables[0][21:]))
    assert quality_of_file(path) is None


def as_jpeg(image, quality, subsampling):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(stream))


@pytest.mark.parametrize("quality", [3, 10, 35, 60, 85, 99])
def test_quality_from_pixels(quality, photograph):
    for subsampling in ("4:2:0", "4:2:2", "4:4:4"):
        found = DEJPEG.estimate_level(as_jpeg(photograph, quality, subsampling))
        assert found.parts["jpeg"] == quality, subsampling
    grey = photograph[..., 1:2]
    assert DEJPEG.estimate_level(jpeg(None, grey, quality)).parts["jpeg"] == quality


@pytest.mark.parametrize("quality", [20, 80])
def test_quality_of_a_photograph_with_a_white_margin(quality, photograph):
    page = np.full((800, 800, 3), 255, np.uint8)
    page[304:704, 104:704] = photograph
    assert DEJPEG.estimate_level(as_jpeg(page, quality, "4:2:0")).parts["jpeg"] == quality


def never_compressed(photograph):
    """Images by name, flat and smooth ones, margins and crops among them."""
    rows, columns = np.mgrid[:300, :400]
    sky = np.stack([100 + rows * 0.1, 150 + rows * 0.12, 200 + columns * 0.02], -1)
    page = np.full((800, 800, 3), (245, 244, 240), np.uint8)
    page[300:700, 100:700] = photograph
    flat = {f"flat {value}": np.full((256, 256, 3), value) for value in (0, 17, 77, 200, 255)}
    return {
        "noisy": noisy(photograph, 5),
        "as it is": photograph,
        "tiny": photograph[:3, :3],
        "sky": np.round(sky),
        "page": page,
        "cropped": as_jpeg(photograph, 30, "4:2:0")[3:, 5:],
        "resized": np.asarray(Image.fromarray(as_jpeg(photograph, 80, "4:2:0")).resize((480, 320))),
        **flat,
    }


def test_what_was_never_compressed_is_reported(photograph):
    for name, image in never_compressed(photograph).items():
        with pytest.raises(UserError, match="no trace of JPEG"):
            pytest.fail(f"{name}: {DEJPEG.estimate_level(image).parts}")


@pytest.mark.parametrize("task", ["denoise", "dejpeg", "photo"])
def test_what_is_no_image_is_refused_before_it_is_estimated(task, photograph):
    image = photograph / np.float32(255)
    image[5, 7, 1] = np.nan
    with pytest.raises(UserError, match="not finite"):
        resolve_level(TASKS[task], AUTO, image, None)
    for other in (image[..., 0], image[:0], np.dstack([photograph, photograph[..., :1]])):
        with pytest.raises(UserError, match="estimated from an image"):
            resolve_level(TASKS[task], AUTO, other, None)


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
