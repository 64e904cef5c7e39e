"""Camera noise has the strength of its level, and resembles that of real cameras."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from hypernet_jax.degradations import (
    BLUR,
    CAMERA_JPEG,
    PHOTO_NOISE,
    QUANTISE,
    SLIGHT_COMPRESSION,
    Chain,
    camera_noise,
    photo_noise,
)
from hypernet_jax.tasks import TASKS

FLAT = 127.5 * jnp.ones((40, 80, 80, 3))
LUMA = (0.299, 0.587, 0.114)
# These run for longer than they take to compile, unlike most programs of the tests.
COMPILED = {
    noise: jax.jit(noise, compiler_options={"xla_backend_optimization_level": 1})
    for noise in (camera_noise, photo_noise)
}


def noisy(key, image, level, *, smooth=0.0, coarse=0.0):
    return COMPILED[camera_noise](key, image, level, smooth=smooth, coarse=coarse)


def lag(plane, distance):
    """Autocorrelation of (N, H, W) along rows."""
    plane = plane - plane.mean(axis=(1, 2), keepdims=True)
    product = plane[:, :, distance:] * plane[:, :, :-distance]
    return product.mean() / np.square(plane).mean()


class CameraNoiseTest(chex.TestCase):
    @chex.variants(with_jit=True)
    def test_shapes_and_no_noise(self):
        noise = self.variant(camera_noise)
        for shape in ((2, 9, 11, 3), (9, 11, 1)):
            image = jax.random.uniform(jax.random.key(1), shape, maxval=255.0)
            chex.assert_trees_all_close(noise(jax.random.key(0), image, 0.0), image, atol=1e-3)
            made = noise(jax.random.key(0), image, 10.0)
            chex.assert_equal_shape([made, image])
            chex.assert_tree_all_finite(made)
            assert jnp.abs(made - image).max() > 1

    @parameterized.parameters(2.0, 5.0, 10.0, 20.0, 40.0)
    def test_the_level_is_the_deviation_at_mid_grey(self, level):
        noise = np.asarray(noisy(jax.random.key(2), FLAT, level)) - 127.5
        each = noise.reshape(len(noise), -1).std(axis=1)
        assert each.mean() == pytest.approx(level, rel=0.04)
        assert each.std() < 0.06 * level
        assert abs(noise.mean()) < 0.02 * level


def test_it_is_like_that_of_real_cameras():
    """Between the low-light set and CC15 of in-camera JPEGs: see docs/results/photographs.md."""
    keys = jax.random.split(jax.random.key(0), 3)  # every camera differs
    noise = np.concatenate([noisy(key, FLAT, 6.0) for key in keys]) - 127.5
    red, green, blue = np.moveaxis(noise, -1, 0)
    assert red.std() > blue.std() > green.std()
    assert 1.2 < red.std() / green.std() < 1.9
    for plane, low, high in ((red, 0.58, 0.82), (green, 0.45, 0.72), (blue, 0.55, 0.82)):
        assert low < lag(plane, 1) < high
    chroma = noise @ np.array([-0.1687, -0.3313, 0.5])
    assert 0.6 < lag(chroma, 1) < 0.9
    assert 0.2 < lag(chroma, 2) < 0.7
    assert 0.0 < lag(chroma, 4) < 0.35
    channels = np.corrcoef(noise.reshape(-1, 3).T)
    assert 0.2 < channels[0, 1] < 0.5


def test_dark_areas_are_not_darkened():
    """The mean is unchanged even in the dark, so restorers learn no spurious correction of it."""
    for value in (4.0, 16.0, 40.0, 220.0):
        noise = np.asarray(noisy(jax.random.key(3), jnp.full_like(FLAT, value), 12.0)) - value
        assert abs(noise.mean()) < 0.12
        # Without a gamma the noise is weaker in the dark; with one it is stronger there.
        each = noise.reshape(len(noise), -1).std(axis=1)
        assert each.min() < 0.7 * 12 or value > 100
    assert 6 < each.mean() < 20


@pytest.mark.parametrize("noise", [camera_noise, photo_noise])
def test_files_of_eight_bits_keep_the_mean(noise):
    """Clipping moves no mean, so restorers learn to darken no shadows."""
    for value in (2.0, 10.0, 30.0, 250.0):
        image = jnp.full_like(FLAT, value)
        file = np.clip(np.round(COMPILED[noise](jax.random.key(5), image, 25.0)), 0, 255)
        assert abs(file.mean() - value) < 0.25
        assert file.std() > 0.7


def test_all_phases_of_the_mosaic_are_drawn():
    """Noise is periodic in each picture, but over many pictures no position differs."""
    noise = np.asarray(noisy(jax.random.key(6), FLAT, 10.0))[..., 0] - 127.5
    strength = noise.reshape((len(noise), 40, 2, 40, 2)).std(axis=(1, 3))
    relative = strength / strength.mean(axis=(1, 2), keepdims=True)
    weakest = relative.reshape((-1, 4)).argmin(axis=1)
    assert set(weakest) == {0, 1, 2, 3}
    assert np.median(relative.max(axis=(1, 2)) / relative.min(axis=(1, 2))) > 1.1
    np.testing.assert_allclose(relative.mean(axis=0), 1, atol=0.06)


def test_some_cameras_leave_more_noise_in_texture():
    grains = 127.5 + 30 * jax.random.normal(jax.random.key(8), (80, 80, 1))
    flat, grainy = (
        np.asarray(noisy(jax.random.key(7), jnp.broadcast_to(image, FLAT.shape), 8.0) - image)
        for image in (127.5 * jnp.ones((80, 80, 1)), jnp.clip(grains, 60, 195))
    )
    more = grainy.std(axis=(1, 2, 3)) / flat.std(axis=(1, 2, 3))
    assert 0.2 < np.mean(more > 1.15) < 0.6 and more.max() < 3


def test_some_cameras_smooth_luminance_strongly_on_request():
    for level, changed in ((8.0, 0.75), (30.0, 0.0)):
        usual, smooth = (
            np.asarray(noisy(jax.random.key(9), FLAT, level, smooth=share)) - 127.5
            for share in (0.0, 1.0)
        )
        # All but the quarter without a matrix.
        other = np.abs(smooth - usual).max(axis=(1, 2, 3)) > 1e-3
        assert other.mean() == pytest.approx(changed, abs=0.2)
        if changed:
            luma, smooth_luma = (noise[other] @ np.array(LUMA) for noise in (usual, smooth))
            assert lag(smooth_luma, 1) > lag(luma, 1) + 0.1
        np.testing.assert_allclose(smooth.std(axis=(1, 2, 3)).mean(), level, rtol=0.05)


def test_some_cameras_leave_little_and_coarse_noise_of_colours_on_request():
    usual, coarse = (
        np.asarray(noisy(jax.random.key(10), FLAT, 8.0, coarse=share)) - 127.5
        for share in (0.0, 1.0)
    )
    # All but the quarter without a matrix.
    other = np.abs(coarse - usual).max(axis=(1, 2, 3)) > 1e-3
    assert other.mean() == pytest.approx(0.75, abs=0.2)
    shares, lags = [], []
    for noise in (usual[other], coarse[other]):
        luma = noise @ np.array(LUMA)
        blue = noise[..., 2] - luma
        shares.append(np.median(blue.std(axis=(1, 2)) / luma.std(axis=(1, 2))))
        lags.append(lag(blue, 2))
    assert shares[1] < 0.7 * shares[0]
    assert lags[1] > lags[0] + 0.1
    np.testing.assert_allclose(coarse.std(axis=(1, 2, 3)).mean(), 8.0, rtol=0.05)


def test_a_share_of_the_noise_is_white():
    noise = np.asarray(COMPILED[photo_noise](jax.random.key(4), FLAT, 10.0)) - 127.5
    correlation = np.array([lag(one[None, ..., 0], 1) for one in noise])
    white = np.abs(correlation) < 0.1
    assert 0.1 < white.mean() < 0.45
    assert correlation[~white].min() > 0.3
    np.testing.assert_allclose(noise[white].std(axis=(1, 2, 3)), 10, rtol=0.05)


def test_the_chain_of_photographs(photograph):
    task = TASKS["photo"]
    crop = photograph[:64, :96]
    unchanged = task.degradation(jax.random.key(0), crop, task.space.neutral.named)
    np.testing.assert_array_equal(unchanged, crop)
    for level in ({"jpeg": 99}, {"noise": 3}, {"blur": 0.5}):
        named = task.space.parse(level).named
        changed = np.asarray(task.degradation(jax.random.key(0), crop, named))
        assert np.abs(changed - crop).mean() > 0.1
        np.testing.assert_array_equal(changed, np.clip(np.round(changed), 0, 255))
    others = (BLUR, PHOTO_NOISE, QUANTISE, CAMERA_JPEG)
    assert task.degradation.operators == (*others[:3], SLIGHT_COMPRESSION, CAMERA_JPEG)
    assert task.degradation.without(SLIGHT_COMPRESSION) == Chain(*others)
    host = Chain(*task.degradation.operators[-1:])
    np.testing.assert_array_equal(host(None, crop, {"jpeg": 100.0}), crop)
