"""What the shipped network of `photo` makes of the noise of sensors."""

import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter

from hypernet_jax import Restorer
from hypernet_jax.inference.requests import resolve_level


@pytest.fixture(scope="module")
def restorer():
    return Restorer.from_pretrained("photo")


def sensor_noise(clean, read=12, shot=1.5):
    """Noise of a Bayer sensor without processing but bilinear interpolation; (H, W, 3)."""
    height, width, _ = clean.shape
    row, column = np.mgrid[:height, :width] % 2
    masks = (row + column == 0, row != column, row + column == 2)
    weights = np.outer([0.5, 1, 0.5], [0.5, 1, 0.5])
    noise = np.sqrt(read + shot * clean) * np.random.default_rng(0).normal(size=clean.shape)
    planes = [
        convolve(mask * noise[..., index], weights, mode="wrap")
        / convolve(mask.astype(float), weights, mode="wrap")
        for index, mask in enumerate(masks)
    ]
    return np.stack(planes, axis=-1)


def error(one, other):
    return float(np.mean(np.square(one.astype(float) - other)))


def test_the_phase_of_the_mosaic_does_not_matter(restorer, photograph):
    clean = np.round(photograph[:162, :162] / 2.0)
    noise = sensor_noise(clean, read=100, shot=8)
    noisy = np.clip(np.round(clean + noise), 0, 255).astype(np.uint8)
    ratios = []
    for down in (0, 1):
        for right in (0, 1):
            cut = slice(down, down + 160), slice(right, right + 160)
            restored = restorer.restore(noisy[cut], level={"noise": 25})
            ratios.append(error(restored, clean[cut]) / error(noisy[cut], clean[cut]))
    assert max(ratios) < 0.25
    assert max(ratios) < 1.15 * min(ratios)


def test_a_blurred_photograph_is_sharpened_unasked_and_no_other(restorer, photograph):
    clean = photograph[:256, :384]
    blurred = gaussian_filter(clean.astype(float), (2, 2, 0)).round().astype(np.uint8)
    levels = [resolve_level(restorer.model.task, "auto", x, None)[0] for x in (clean, blurred)]
    assert levels[0]["blur"] == 0 and 1.5 < levels[1]["blur"] < 2.5
    restored = restorer.restore(blurred, level=levels[1])
    assert error(restored, clean) < 0.75 * error(blurred, clean)


@pytest.mark.parametrize("noise", [5, 12, 25, 40])
def test_shadows_are_not_darkened(noise, restorer, photograph):
    clean = np.round(photograph[:160, :240] / 8.0)
    noisy = np.clip(np.round(clean + sensor_noise(clean)), 0, 255).astype(np.uint8)
    restored = restorer.restore(noisy, level={"noise": noise})
    assert abs(np.mean(restored.astype(float) - clean)) < 1
