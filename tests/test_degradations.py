"""Degradations and metrics reproduce figures of the literature and of other libraries."""

import io
import math

import jax
import numpy as np
import pytest
import scipy.ndimage
import skimage.metrics
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from hypernet_jax import UserError
from hypernet_jax.degradations import (
    bicubic_down_up,
    bicubic_reduce,
    bicubic_resize,
    cropped_jpeg,
    gaussian_blur,
    gaussian_noise,
    jpeg,
)
from hypernet_jax.degradations.jpeg import quantisation_tables
from hypernet_jax.degradations.slight import slight_compression, slight_damage
from hypernet_jax.evaluation.measure import measured_area, noise_key
from hypernet_jax.images.folders import find_images
from hypernet_jax.images.reading import read_image
from hypernet_jax.metrics import psnr, psnr_b, rgb_to_y, ssim
from hypernet_jax.tasks import TASKS

# Input PSNR of the test sets under each protocol, from the literature.
CHECK_VALUES = {
    ("denoise", "8-bit", "CBSD68"): {
        5: 34.25, 15: 24.83, 25: 20.53, 35: 17.78, 50: 15.00, 75: 12.11, 90: 10.97,
    },
    ("denoise", "float", "CBSD68"): {
        5: 34.15, 15: 24.61, 25: 20.17, 35: 17.25, 50: 14.15, 75: 10.63, 90: 9.05,
    },
    ("dejpeg", "grey", "LIVE1"): {10: 27.77, 20: 30.07, 30: 31.41, 40: 32.35},
    ("dejpeg", "colour", "LIVE1"): {10: 25.69, 20: 28.06, 30: 29.37, 40: 30.28},
    ("sr", "y", "Set5"): {2: 33.66, 3: 30.39, 4: 28.42, 5: 26.99},
}  # fmt: skip


@pytest.mark.parametrize("setting", CHECK_VALUES, ids="-".join)
def test_check_values(setting, test_sets):
    task, protocol_name, dataset = setting
    protocol = TASKS[task].protocols[protocol_name]
    images = {path.name: read_image(path) for path in find_images(test_sets / dataset)}
    for number, expected in CHECK_VALUES[setting].items():
        figures, level = [], TASKS[task].space.parse(number)
        for name, clean in images.items():
            reference = protocol.reference(clean, level)
            degraded = protocol.degradation(noise_key(0, name), reference, level.named)
            area = measured_area(np.asarray(degraded), reference, protocol, level)
            figures.append(psnr(*area))
        assert np.mean(figures) == pytest.approx(expected, abs=0.02), number


def test_noise_protocols(photograph):
    key = jax.random.key(0)
    floating, rounded = (
        np.asarray(TASKS["denoise"].protocols[name].degradation(key, photograph, {"noise": 25}))
        for name in ("float", "8-bit")
    )
    np.testing.assert_allclose(floating, gaussian_noise(key, photograph, 25), atol=1e-4)
    assert floating.min() < 0 and floating.max() > 255
    noise = floating - photograph
    assert abs(noise.mean()) < 0.1 and noise.std() == pytest.approx(25, rel=0.01)
    np.testing.assert_array_equal(rounded, np.round(np.clip(floating, 0, 255)))
    np.testing.assert_array_equal(gaussian_noise(key, photograph, 0), photograph)


def test_noise_hangs_on_the_name_not_on_the_order():
    draw = {name: jax.random.normal(noise_key(0, name)) for name in ("a.png", "b.png")}
    assert draw["a.png"] != draw["b.png"]
    assert draw["a.png"] == jax.random.normal(noise_key(0, "a.png"))
    assert draw["a.png"] != jax.random.normal(noise_key(1, "a.png"))


@pytest.mark.parametrize("grey", [False, True])
def test_jpeg_at_integer_qualities_is_pillows(photograph, grey):
    image = photograph[:64, :96, :1] if grey else photograph[:64, :96]
    for quality in range(1, 101):
        stream = io.BytesIO()
        picture = Image.fromarray(image[..., 0] if grey else image)
        picture.save(stream, "JPEG", quality=quality, subsampling=-1 if grey else "4:2:0")
        decoded = np.asarray(Image.open(stream)).reshape(image.shape)
        np.testing.assert_array_equal(jpeg(None, image, quality), decoded, err_msg=str(quality))


def test_jpeg_between_integer_qualities(photograph):
    tables = [np.array(quantisation_tables(quality)) for quality in (10, 10.5, 11)]
    assert (tables[0] >= tables[1]).all() and (tables[1] >= tables[2]).all()
    assert (tables[0] != tables[1]).any() and (tables[1] != tables[2]).any()
    figures = [psnr(jpeg(None, photograph, q), photograph) for q in (10, 10.5, 11)]
    assert figures == sorted(figures)


def test_what_is_compressed_is_quantised_first(photograph):
    """Values are rounded and clipped to 8 bits; the encoder refuses others."""
    shifted = photograph + np.where(photograph < 128, 0.4, -0.4)
    stretched = np.where(photograph == 255, 300.0, shifted)
    _, protocol = TASKS["dejpeg"].protocol(None)
    compressed = protocol.degradation(None, stretched, {"jpeg": 50})
    np.testing.assert_array_equal(compressed, jpeg(None, photograph, 50))
    for odd in (stretched, photograph + 0.5, photograph - 300.0):
        with pytest.raises(ValueError, match="quantise"):
            jpeg(None, odd, 50)


def test_a_quarter_of_the_crops_have_their_corner_inside_a_block(photograph):
    crops = np.stack([photograph[:48, :64]] * 64)
    plain = jpeg(None, crops[0], 20)
    cropped = cropped_jpeg(jax.random.key(0), crops, 20)
    assert cropped.shape == crops.shape and cropped.dtype == np.float32
    other = [each for each in cropped if not np.array_equal(each, plain)]
    assert 8 <= len(other) <= 26
    assert len({each.tobytes() for each in other}) > 6

    def steps(image):
        """Mean step between columns of each position in a block of 8."""
        across = np.abs(np.diff(image.mean(axis=-1), axis=1)).mean(axis=0)
        return np.array([across[place::8].mean() for place in range(8)])

    assert steps(plain).argmax() == 7
    assert len({steps(each).argmax() for each in other}) > 4


def test_slight_damage_of_photographs(photograph):
    """Half of the images have some, noise or compression, and it is slight; the rest have none."""
    clean = np.stack([photograph[:32, :32]] * 80) + 0.3
    key = jax.random.key(1)
    damaged = slight_damage(key, clean)
    np.testing.assert_array_equal(damaged, slight_damage(key, clean))
    np.testing.assert_array_equal(damaged, damaged.astype(np.uint8))
    errors = (damaged - np.round(clean)).std(axis=(1, 2, 3))
    assert 0.3 < np.mean(errors > 0) < 0.6
    assert 2 < errors.max() < 12
    grey = slight_damage(key, clean[..., :1])
    assert grey.shape == (80, 32, 32, 1)


def test_slight_compression_of_noisy_photographs(photograph):
    """Half of the noisy images are compressed, slightly; of those without noise, none is."""
    clean = np.stack([photograph[:32, :32]] * 60)
    key = jax.random.key(1)
    np.testing.assert_array_equal(slight_compression(key, clean, 0.0), clean)
    compressed = slight_compression(key, clean, 5.0)
    np.testing.assert_array_equal(compressed, slight_compression(key, clean, 5.0))
    errors = (compressed - clean).std(axis=(1, 2, 3))
    assert 0.3 < np.mean(errors > 0) < 0.7
    strongest = (jpeg(None, clean[0], 88) - clean[0]).std()
    assert errors[errors > 0].min() > 0.3 and errors.max() < strongest + 0.5


def test_jpeg_of_a_batch_is_that_of_each_image(photograph):
    batch = np.stack([photograph[:32, :32], photograph[100:132, 50:82]])
    for one, together in zip(batch, jpeg(None, batch, 20), strict=True):
        np.testing.assert_array_equal(jpeg(None, one, 20), together)


@settings(max_examples=15)
@given(st.integers(24, 60), st.integers(1, 12), st.integers(1, 12))
def test_bicubic_is_jaxs_inside(height, rows, columns):
    """jax.image.resize has the same cubic but drops out-of-image taps at the borders."""
    image = np.random.default_rng(0).uniform(0, 255, (height, height, 2)).astype(np.float32)
    size = (max(1, height * rows // columns), max(1, height * rows // columns))
    factor = size[0] / height
    margin = int(np.ceil(3 * max(1.0, factor)))
    assume(size[0] > 2 * margin)
    got = bicubic_resize(image, factor, size=size)
    resize = jax.jit(lambda x: jax.image.resize(x, (*size, 2), "cubic", antialias=True))
    expected = np.asarray(resize(image))
    inside = (slice(margin, -margin), slice(margin, -margin))
    np.testing.assert_allclose(got[inside], expected[inside], atol=0.02)


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(1.0, 5.0), st.sampled_from([1, 3]))
def test_down_up_keeps_shape_and_constants(height, width, scale, channels):
    image = np.full((height, width, channels), 137, np.uint8)
    np.testing.assert_allclose(bicubic_down_up(None, image, scale), image, atol=1e-3)


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.floats(1.0, 5.0), st.randoms())
def test_a_reduced_image_fits_into_a_file(height, width, scale, random):
    values = np.random.default_rng(random.getrandbits(32)).integers(0, 2, (height, width, 3)) * 255
    small = bicubic_reduce(values, scale)
    assert small.shape == (math.ceil(height / scale - 1e-6), math.ceil(width / scale - 1e-6), 3)
    np.testing.assert_array_equal(small, small.astype(np.uint8))


def test_down_up_against_pillow(photograph):
    """Pillow's bicubic also has a = -0.5 and antialiasing, but rounds between its passes."""
    small = Image.fromarray(photograph).resize((300, 200), Image.Resampling.BICUBIC)
    large = np.asarray(small.resize((600, 400), Image.Resampling.BICUBIC))
    ours = TASKS["sr"].degradation(None, photograph, {"scale": 2})
    assert psnr(ours[8:-8, 8:-8], large[8:-8, 8:-8]) > 52


def test_scale_one_is_the_identity(photograph):
    np.testing.assert_array_equal(bicubic_down_up(None, photograph, 1.0), photograph)


def test_blur_against_scipy(photograph):
    """Several sigmas in one traced call; images so small that mirroring repeats."""
    sigmas = np.float32([0.3, 0.75, 1, 2.5, 4])
    for image in (photograph[:150, :200], photograph[:7, :9, :1], photograph[:1, :30]):
        blurred = jax.jit(jax.vmap(gaussian_blur, (None, None, 0)))(None, image, sigmas)
        for sigma, ours in zip(sigmas, np.asarray(blurred), strict=True):
            theirs = scipy.ndimage.gaussian_filter(
                image.astype(np.float64), (sigma, sigma, 0), mode="reflect", truncate=4
            )
            np.testing.assert_allclose(ours, theirs, atol=0.02)
            np.testing.assert_allclose(ours, gaussian_blur(None, image, sigma), atol=1e-4)


def test_no_blur_is_the_identity(photograph):
    for sigma in (0, 0.05):
        blurred = gaussian_blur(None, photograph, sigma)
        np.testing.assert_allclose(blurred, photograph, atol=1e-6)


def test_metrics_against_scikit_image(photograph):
    noisy = np.clip(
        photograph + np.random.default_rng(0).normal(0, 20, photograph.shape), 0, 255
    ).astype(np.uint8)
    assert psnr(noisy, photograph) == pytest.approx(
        skimage.metrics.peak_signal_noise_ratio(photograph, noisy, data_range=255), abs=1e-9
    )
    each = [
        skimage.metrics.structural_similarity(
            noisy[..., c],
            photograph[..., c],
            data_range=255,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for c in range(3)
    ]
    assert ssim(noisy, photograph) == pytest.approx(np.mean(each), abs=1e-9)
    assert psnr(photograph, photograph) == np.inf
    for metric in (psnr, psnr_b, ssim):
        with pytest.raises(UserError, match="cannot be compared"):
            metric(photograph, photograph[..., :1])
    assert ssim(photograph, photograph) == 1.0


def test_luma_is_bt601_studio_range():
    corners = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]])
    np.testing.assert_array_equal(rgb_to_y(corners)[:, 0], [16, 235, 81, 145, 41])


def test_psnr_b_penalises_blocks_only():
    plane = np.full((32, 32, 1), 100.0)
    blocky = plane.copy()
    blocky[:, 8:16] += 10.0  # two vertical edges, both on the 8x8 grid
    # 64 squared steps of 100 across 96 + 96 border pairs; none elsewhere.
    excess = (2 * 32 * 100.0) / (32 * 3 + 32 * 3)
    error = np.mean((blocky - plane) ** 2) + np.log2(8) / np.log2(32) * excess
    assert psnr_b(blocky, plane) == pytest.approx(10 * np.log10(255**2 / error), abs=1e-9)
    off_grid = plane.copy()
    off_grid[:, 4:12] += 10.0
    assert psnr_b(off_grid, plane) == psnr(off_grid, plane)


def test_psnr_b_of_jpeg_matches_the_literature(test_sets):
    figures = []
    for path in find_images(test_sets / "LIVE1"):
        reference = TASKS["dejpeg"].protocols["grey"].reference(read_image(path), 10)
        figures.append(psnr_b(jpeg(None, reference, 10), reference))
    assert np.mean(figures) == pytest.approx(25.33, abs=0.02)


def test_metrics_refuse_images_without_channels():
    plane = np.zeros((12, 12))
    for metric in (ssim, psnr_b):
        with pytest.raises(UserError, match=r"give \(height, width, channels\)"):
            metric(plane, plane)
    with pytest.raises(UserError, match="no luma"):
        rgb_to_y(np.zeros((4, 4, 1)))


@pytest.mark.parametrize("task", ["denoise", "deblur", "photo"])
def test_degradations_where_jax_counts_in_64_bits(task, photograph):
    chain, level = TASKS[task].degradation, TASKS[task].space.parse(TASKS[task].starting_level)
    expected = np.asarray(chain(jax.random.key(0), photograph[:24, :32], level.named))
    with jax.enable_x64(True):
        found = chain(jax.random.key(0), photograph[:24, :32], level.named)
        given = {name: np.float64(value) for name, value in level.named.items()}
        again = chain(jax.random.key(0), photograph[:24, :32].astype(np.float64), given)
    assert found.dtype == again.dtype == np.float32
    # The same draws and the same arithmetic, to a rounding.
    np.testing.assert_allclose(found, expected, atol=1.0)
    assert (np.asarray(found) != expected).mean() < 0.01
    np.testing.assert_array_equal(again, found)
