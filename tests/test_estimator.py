"""The estimator of all parts of a level, and the use of its estimates."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypernet_jax import UserError
from hypernet_jax.blind.parts import (
    LARGEST,
    PartsEstimator,
    apply_layers,
    beyond_natural,
    cell_weights,
    load_parts_estimator,
    weighted_mean,
    weighted_quantile,
)
from hypernet_jax.blind.statistics import ORIENTED, statistics
from hypernet_jax.data.levels import LevelSampler
from hypernet_jax.levels import PHOTO
from hypernet_jax.photographs.luma_chroma import luma_with_chroma
from hypernet_jax.tasks import TASKS
from hypernet_jax.training.estimator import averaged, estimator_examples, train_estimator

PHOTO_TASK = TASKS["photo"]
# Frequency bands of the statistics that come first.
BANDS = ORIENTED.shape[1]


def damaged(photograph, **level):
    import jax

    named = PHOTO.parse(level).named
    return np.asarray(PHOTO_TASK.degradation(jax.random.key(1), photograph, named))


def test_statistics_see_each_damage(photograph):
    clean = statistics(photograph[:192, :192])
    assert clean.dtype == np.float32 and np.isfinite(clean).all()
    seen = [statistics(damaged(photograph[:192, :192], **level)) for level in (
        {"noise": 10}, {"jpeg": 40}, {"blur": 1.5},
    )]  # fmt: skip
    for one in seen:
        assert one.shape == clean.shape and np.abs(one - clean).max() > 0.3
    noisy, _, blurred = seen
    lowest, highest, of_blue = 0, BANDS - 1, BANDS  # of luminance; the lowest of Cb
    assert np.median(noisy[..., of_blue] - clean[..., of_blue]) > 0.2
    assert np.median(blurred[..., highest] - clean[..., highest]) < -0.2
    assert abs(np.median(blurred[..., lowest] - clean[..., lowest])) < 0.2
    # Images of all sizes and kinds are padded to whole cells.
    for part, rows, columns in (
        (photograph[:5, :7], 4, 4),
        (photograph[:100, :64, :1], 7, 4),
        (photograph[:64, :300], 4, 19),
    ):
        found = statistics(part)
        assert found.shape == (rows, columns, clean.shape[-1]) and np.isfinite(found).all()


def test_energies_of_white_noise_are_its_variance():
    white = statistics(np.random.default_rng(0).normal(128, 10, (256, 256, 1)))
    energy = np.exp(2 * white[..., :BANDS]).mean((0, 1))
    np.testing.assert_allclose(energy, 100, rtol=0.1)
    # Along each axis, a step after every eighth pixel shows.
    ramp = np.repeat(np.arange(0, 160, 20), 8).astype(np.float32)
    steps = [
        statistics(np.broadcast_to(each, (64, 64))[..., None]) for each in (ramp, ramp[:, None])
    ]
    assert (np.abs(steps[0] - steps[1]).max((0, 1)) > 3).sum() >= 4


def test_the_weighted_mean_follows_limited_weights():
    opinions = np.array([[1.0, 5.0, 0.0, -1e9], [3.0, 7.0, 0.0, 1e9]])
    largest = 4.0**LARGEST  # ratio of two weights
    expected = [2.0, (5.0 + largest * 7.0) / (1.0 + largest)]
    np.testing.assert_allclose(weighted_mean(opinions), expected, atol=1e-6)
    np.testing.assert_allclose(weighted_mean(jnp.asarray(opinions)), expected, atol=1e-5)


def test_weights_are_positive_and_limited():
    logarithms = np.array([[[-1e9, -1.0]], [[0.0, 1e9]]])
    weights = cell_weights(np.concatenate([np.zeros_like(logarithms), logarithms], axis=-1))
    expected = [[[2.0**-LARGEST, 2.0 ** (-1 / (1 + 1 / LARGEST))]], [[1.0, 2.0**LARGEST]]]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


VALUES = st.lists(st.tuples(st.floats(-50, 50), st.integers(1, 20)), min_size=1, max_size=16)


@given(VALUES, st.floats(0, 1))
def test_a_weighted_quantile_is_near_that_of_values_repeated_by_their_weights(pairs, quantile):
    values, counts = np.array([v for v, _ in pairs]), np.array([n for _, n in pairs])
    found = weighted_quantile(values, counts / 7.0, quantile)
    # The middles of equal weights are those of Hazen's quantile.
    equal = weighted_quantile(values, np.ones(len(values)), quantile)
    assert equal == pytest.approx(np.quantile(values, quantile, method="hazen"), abs=1e-9)
    # It lies between the neighbours of the quantile of the repeated values.
    places = np.searchsorted(np.cumsum(counts[np.argsort(values)]), quantile * counts.sum())
    ordered = np.pad(np.sort(values), 1, mode="edge")
    assert ordered[places] - 1e-9 <= found <= ordered[min(places + 2, len(ordered) - 1)] + 1e-9


@given(st.floats(0, 4), st.floats(0, 4))
def test_natural_blur_is_left_alone(one, other):
    small, large = (beyond_natural("blur", sigma) for sigma in sorted((one, other)))
    assert 0 <= small <= large <= max(one, other)
    assert beyond_natural("blur", 1.2) == 0 and beyond_natural("blur", 1.5) == 1.5
    assert beyond_natural("noise", one) == one
    both = beyond_natural("blur", np.array([one, other]))
    np.testing.assert_array_equal(both, [beyond_natural("blur", each) for each in (one, other)])


def random_estimator(seed):
    rng = np.random.default_rng(seed)
    shapes = ((7, 5), (3, 3, 5, 5), (5, 5), (5, 6))
    layers = tuple((rng.normal(size=shape), rng.normal(size=shape[-1])) for shape in shapes)
    deviation = rng.uniform(0.5, 2, 7)
    return PartsEstimator(
        PHOTO.names, np.array([100.0, 3.0, 10.0]), rng.normal(size=7), deviation, layers
    )


def test_an_average_has_the_mean_opinion():
    estimators = [random_estimator(seed) for seed in range(3)]
    cells = np.random.default_rng(9).normal(size=(2, 6, 5, 7))

    def opinions(each):
        return apply_layers(each.layers, (cells - each.mean) / each.deviation)

    expected = np.mean([opinions(each) for each in estimators], axis=0)
    np.testing.assert_allclose(opinions(averaged(estimators)), expected, atol=1e-9)
    np.testing.assert_allclose(opinions(averaged(estimators[:1])), opinions(estimators[0]))
    other = dataclasses.replace(estimators[0], names=("noise", "jpeg", "haze"))
    with pytest.raises(ValueError, match="different tasks"):
        averaged([other, estimators[1]])


def test_training_saving_and_loading(default_data, tmp_path, photograph):
    sampler = LevelSampler((0.0, 15.0, 0.0), (40.0, 100.0, 2.0), 1, absent=0.3,
                           neutral=PHOTO.neutral.values)  # fmt: skip
    seen, levels = estimator_examples(PHOTO_TASK, default_data, sampler=sampler, count=48)
    assert len(seen) == len(levels) == 48 and levels.shape[1] == 3
    errors = {}
    made = train_estimator(
        PHOTO_TASK, seen, levels, steps=80, batch=16, held_out=16, report=errors.update
    )
    assert set(errors) == {"noise", "jpeg", "blur"}
    z = np.asarray(PHOTO.normalise(levels))[:, 1]
    assert errors["jpeg"] < 0.7 * np.abs(z[32:] - np.median(z[:32])).mean()
    made.save(tmp_path / "parts.safetensors")
    again = load_parts_estimator(tmp_path / "parts.safetensors")
    image = damaged(photograph[:192, :192], noise=20)
    assert again.estimate(image, PHOTO) == made.estimate(image, PHOTO)
    found = again.estimate(image, PHOTO)
    assert list(found) == ["noise", "jpeg", "blur"] and 5 < found["noise"] < 60
    with pytest.raises(UserError, match="for levels with the parts noise, jpeg, blur"):
        again.estimate(image, TASKS["denoise"].space)
    with pytest.raises(UserError, match="no level estimator"):
        load_parts_estimator(tmp_path / "none.safetensors")
    for changes in (
        {"gain": made.gain[:1]},
        {"deviation": 0 * made.deviation},
        {"layers": ((made.layers[0][0] * np.nan, made.layers[0][1]), *made.layers[1:])},
        {"names": ("noise", "jpeg")},
    ):
        dataclasses.replace(made, **changes).save(tmp_path / "other.safetensors", overwrite=True)
        with pytest.raises(UserError, match="does not describe its network"):
            pytest.fail(f"{changes}: {load_parts_estimator(tmp_path / 'other.safetensors')}")
    (tmp_path / "bad.safetensors").write_bytes(b"not one")
    with pytest.raises(UserError, match="damaged"):
        load_parts_estimator(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_luminance_of_one_and_colour_of_another(dtype, photograph):
    white = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    one = (photograph[:70, :90] / 255.0 * white).astype(dtype)
    other = (photograph[200:270, :90] / 510.0 * white).astype(dtype)
    merged = luma_with_chroma(one, other)
    assert merged.dtype == dtype and merged.shape == one.shape
    weights = np.array([0.299, 0.587, 0.114])
    inside = (merged > 0).all(-1) & (merged < white).all(-1)
    y = merged @ weights - one @ weights
    assert np.abs(y[inside]).max() <= (1 if dtype != np.float32 else 1e-5)
    blue = (merged[..., 2] - merged @ weights) - (other[..., 2] - other @ weights)
    assert np.abs(blue[inside]).max() <= (2 if dtype != np.float32 else 1e-5)
    np.testing.assert_array_equal(luma_with_chroma(one[..., :1], other[..., :1]), one[..., :1])


def test_strength_goes_from_neutral_through_the_level():
    level = PHOTO.parse("noise=20,jpeg=40,blur=1")
    assert PHOTO.scaled(level, 1.0) == level
    assert PHOTO.scaled(level, 0.0) == PHOTO.neutral
    half, twice = PHOTO.scaled(level, 0.5), PHOTO.scaled(level, 2.0)
    z, of_half, of_twice = (np.asarray(PHOTO.normalise(x.array)) for x in (level, half, twice))
    np.testing.assert_allclose(of_half, z / 2, atol=2e-3)
    np.testing.assert_allclose(of_twice[:2], 2 * z[:2], atol=3e-3)
    assert 40 < half["jpeg"] < 100 and 1 < twice["jpeg"] < 40
