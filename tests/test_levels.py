"""Levels with one or several parts: parsing, normalisation, and generated networks."""

import dataclasses
import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.interpolate
from absl.testing import parameterized
from hypothesis import given, settings
from hypothesis import strategies as st

from hypernet_jax import (
    BLUR_SIGMA,
    JPEG_QUALITY,
    NOISE_SIGMA,
    HyperNetwork,
    LevelSpace,
    UserError,
)
from hypernet_jax.features import make_features
from hypernet_jax.networks import ResidualNetwork, init_network
from hypernet_jax.tasks import TASKS

ONE = LevelSpace.of(NOISE_SIGMA)
THREE = LevelSpace.of(NOISE_SIGMA, JPEG_QUALITY, BLUR_SIGMA)


@pytest.mark.parametrize(
    "given_as",
    [
        *(25, 25.0, "25", " 25 ", np.float32(25), np.array(25), np.array([25.0]), [25], ("25",)),
        *({"noise": 25}, {"noise": "25"}, "noise=25", "noise = 25", jnp.float32(25)),
    ],
    ids=repr,
)
def test_one_part_in_any_form(given_as):
    level = ONE.parse(given_as)
    assert level == ONE.parse(25) and hash(level) == hash(ONE.parse(25))
    assert float(level) == 25 and str(level) == "25" and level.plain() == 25.0
    assert level.describe() == "noise sigma 25"
    chex.assert_trees_all_equal(np.asarray(level), np.float32([25]))


@pytest.mark.parametrize(
    "given_as",
    [
        *({"noise": 15, "jpeg": 40}, "noise=15,jpeg=40", " jpeg = 40 , noise=15 "),
        *((15, 40, 0), [15.0, "40", 0], np.array([15, 40, 0.0]), {"jpeg": "40", "noise": 15.0}),
    ],
    ids=repr,
)
def test_several_parts_in_any_form(given_as):
    level = THREE.parse(given_as)
    assert level.named == {"noise": 15.0, "jpeg": 40.0, "blur": 0.0}
    assert str(level) == "noise=15,jpeg=40,blur=0" and THREE.parse(str(level)) == level
    assert level.plain() == level.named
    assert level.describe() == "noise sigma 15, JPEG quality 40, blur sigma 0"


@pytest.mark.parametrize(
    ("given_as", "message"),
    [
        (25, "does not name its parts"),
        ("25", "write it like noise=12,jpeg=88,blur=0.5"),
        ((15, 40), "does not name its parts"),
        ("noise=15,zoom=2", "no part 'zoom'"),
        ("noise=15,noise=20", "given twice"),
        ("noise=fast", "'fast' is not a number"),
        ("noise=", "'noise' of the level has no value; write it like noise=10"),
        ("noise=1,jpeg", "'jpeg' of the level has no value"),
        ("noise=1,", "a comma too many"),
        ("noise=1,,jpeg=50", "a comma too many"),
        ({"noise": True}, "True is not a number"),
        ({"noise": 15, "jpeg": 0}, "The level 0 is out of range; give a JPEG quality from 1"),
        ({"noise": None}, "not a number"),
        ("auto", "does not name its parts"),
        (np.zeros((2, 3)), "does not name its parts"),
    ],
    ids=repr,
)
def test_what_is_no_level_is_refused_with_a_sentence(given_as, message):
    with pytest.raises(UserError, match=message):
        THREE.parse(given_as)


def test_parts_that_are_not_given_are_neutral():
    assert THREE.parse({}) == THREE.neutral == THREE.parse("jpeg=100")
    assert THREE.neutral.named == {"noise": 0.0, "jpeg": 100.0, "blur": 0.0}
    only = THREE.at("noise=15,jpeg=40")
    assert only.only == only.parse({}) == only.parse("noise=15")
    with pytest.raises(UserError, match="the only one that this network serves"):
        only.parse("noise=16")
    assert THREE.only is None


def test_a_level_of_another_space_is_checked_again():
    narrow = LevelSpace.of(dataclasses.replace(NOISE_SIGMA, high=20.0))
    assert narrow.parse(ONE.parse(15)).space == narrow
    with pytest.raises(UserError, match="from 0 to 20"):
        narrow.parse(ONE.parse(25))
    for take in (narrow.parse, narrow.request):
        with pytest.raises(UserError, match="no part 'jpeg'"):
            take(THREE.parse({}))


def test_several_levels_with_parts_are_separated_by_semicolons():
    levels = THREE.parse_list("noise=5; noise=10,jpeg=40")
    assert levels == [THREE.parse("noise=5"), THREE.parse("noise=10,jpeg=40")]
    for text in ("noise=5,noise=10", "5,10", "auto"):
        with pytest.raises(UserError, match="several levels are separated by semicolons"):
            THREE.parse_list(text)


def test_parts_to_be_estimated():
    assert ONE.request("auto").estimated == ("noise",)
    assert ONE.request("auto").level({"noise": 7.0}) == ONE.parse(7)
    assert ONE.request(25).estimated == () and ONE.request(25).level() == ONE.parse(25)
    request = THREE.request("noise=auto,jpeg=40")
    assert request.estimated == ("noise",)
    assert request.level({"noise": 3.5, "jpeg": 90.0}) == THREE.parse("noise=3.5,jpeg=40")
    assert THREE.request({"blur": "auto"}).estimated == ("blur",)
    assert THREE.request("auto").estimated == THREE.names
    assert THREE.request(request) == request and hash(request)
    assert request.level({"noise": 300.0}) == THREE.parse("noise=100,jpeg=40")


def test_one_axis_where_one_is_meant():
    assert ONE.single is NOISE_SIGMA
    for use in (lambda: THREE.single, lambda: float(THREE.neutral)):
        with pytest.raises(UserError, match="3 parts: noise, jpeg, blur"):
            use()
    with pytest.raises(UserError, match="different names"):
        LevelSpace.of(NOISE_SIGMA, NOISE_SIGMA)


@settings(max_examples=30)
@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.floats(1, 100), st.floats(0, 4)), min_size=2, max_size=2
    )
)
def test_z_of_an_array_is_that_of_each_part(levels):
    array = THREE.array(levels)
    assert array.shape == (len(levels), 3) and array.dtype == np.float32
    z = THREE.normalise(array.reshape((1, *array.shape)))
    for index, axis in enumerate(THREE.axes):
        chex.assert_trees_all_equal(z[0, :, index], axis.normalise(array[:, index]))
    named = THREE.named(array)
    chex.assert_trees_all_equal(named["jpeg"], array[:, 1])


FEATURES = {
    "affine": {},
    "proportional": {},
    "polynomial": {"degree": 3},
    "mlp": {"axes": 3},
    "constant": {},
    "independent": {"centres": ((0.1, 0.2, 0.0), (0.5, 0.2, 0.3), (0.9, 0.8, 0.1))},
    "interpolated": {"centres": tuple(itertools.product((0.1, 0.6), (0.5, 0.2), (0.0, 1.0)))},
}


class SeveralPartsTest(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*FEATURES)
    def test_features_make_networks(self, name):
        features = make_features(name, **FEATURES[name])
        hypernet = HyperNetwork(THREE, features)
        template = init_network(jax.random.key(0), ResidualNetwork(channels=4, blocks=1))
        theta = hypernet.init(jax.random.key(1), template)
        level = THREE.parse("noise=30,jpeg=50,blur=1")
        params = self.variant(hypernet.generate)(theta, level.array)
        chex.assert_trees_all_equal_shapes_and_dtypes(params, template)
        if name != "proportional":
            chex.assert_trees_all_close(params, template, rtol=1e-4, atol=1e-6)
        # Normalising many levels at once equals doing so one by one.
        levels = THREE.array([(30, 50, 1), (0, 100, 0), (90, 5, 4)])
        together = self.variant(jax.vmap(hypernet.generate, (None, 0)))(theta, levels)
        first = jax.tree.map(lambda leaf: leaf[0], together)
        chex.assert_trees_all_close(first, params, rtol=1e-5, atol=1e-7)

    @chex.variants(with_jit=True, without_jit=True)
    def test_polynomials_have_cross_terms(self):
        z = jnp.array([0.2, 0.7])
        phi = self.variant(functools.partial(make_features("polynomial", degree=3), {}))(z)
        x, y = 0.2, 0.7
        cubic = [x**3, x**2 * y, x * y**2, y**3]
        expected = [1, x, y, x * x, x * y, y * y, *cubic]
        chex.assert_trees_all_close(phi, jnp.array(expected), rtol=1e-6)

    @chex.variants(with_jit=True, without_jit=True)
    def test_independent_networks_serve_what_is_nearest_to_them(self):
        centres = np.random.default_rng(0).uniform(0, 1, (5, 2))
        features = make_features("independent", centres=tuple(map(tuple, centres.tolist())))
        phi = self.variant(functools.partial(features, {}))
        for z in np.random.default_rng(1).uniform(-0.2, 1.2, (50, 2)).astype(np.float32):
            nearest = np.argmin(np.linalg.norm(centres - z, axis=1))
            chex.assert_trees_all_equal(phi(z), jnp.eye(5)[nearest])

    @chex.variants(with_jit=True, without_jit=True)
    def test_networks_between_the_points_of_a_grid_are_interpolated(self):
        knots = (0.5, 0.1, 0.9), (0.2, 0.7)
        centres = tuple(itertools.product(*knots))
        phi = self.variant(functools.partial(make_features("interpolated", centres=centres), {}))
        line = [np.sort(values) for values in knots]
        for index, centre in enumerate(centres):
            values = np.zeros((3, 2))
            values[tuple(np.searchsorted(a, b) for a, b in zip(line, centre, strict=True))] = 1
            theirs = scipy.interpolate.RegularGridInterpolator(line, values)
            for z in np.float32([(0.1, 0.2), (0.3, 0.5), (0.77, 0.7), (0.6, 0.25)]):
                inside = np.clip(z, [a[0] for a in line], [a[-1] for a in line])
                np.testing.assert_allclose(phi(z)[index], theirs(inside)[0], atol=1e-6)
        outside = phi(jnp.array([2.0, -1.0]))
        chex.assert_trees_all_close(outside, phi(jnp.array([0.9, 0.2])), atol=1e-6)
        with pytest.raises(UserError, match="all points of a grid"):
            make_features("interpolated", centres=centres[:-1])


def test_affine_kernels_of_several_parts_add_up():
    """Each part changes the kernels independently: two together give the sum."""
    hypernet = HyperNetwork(THREE)
    template = init_network(jax.random.key(0), ResidualNetwork(channels=4, blocks=1))
    theta = hypernet.init(jax.random.key(1), template)
    theta = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(2), x.shape), theta)

    def kernels(level):
        return hypernet.generate(theta, THREE.parse(level).array)

    alone = [kernels("noise=40"), kernels("jpeg=20")]
    both = jax.tree.map(lambda n, j, base: n + j - base, *alone, kernels({}))
    chex.assert_trees_all_close(kernels("noise=40,jpeg=20"), both, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_an_undegraded_image_has_z_zero(task):
    space = TASKS[task].space
    chex.assert_trees_all_equal(space.normalise(space.neutral.array), jnp.zeros(len(space)))


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_lists_of_levels_as_text(task):
    levels = [task.space.parse(level) for level in (*task.levels, task.starting_level)]
    text = task.space.format_list([*levels, task.space.neutral])
    assert task.space.parse_list(text) == [*levels, task.space.neutral]


@given(st.floats(0, 75, width=32), st.floats(1, 100), st.floats(0, 4))
def test_the_text_of_a_level_gives_the_same_network(noise, jpeg, blur):
    level = THREE.parse((noise, jpeg, blur))
    again = THREE.parse(str(level))
    np.testing.assert_array_equal(again.array, level.array)
    assert THREE.at(level).parse(str(level)).array.tolist() == level.array.tolist()
    assert str(THREE.parse((25.0, 40, 0.1))) == "noise=25,jpeg=40,blur=0.1"


@pytest.mark.parametrize("name", ["photo", "mixed", "dejpeg"])
def test_gradients_at_neutral_levels_are_finite(name):
    space = TASKS[name].space
    gradient = jax.jacobian(space.normalise)(jnp.asarray(space.neutral.array))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("axis", "normalisation", "far"),
    [(NOISE_SIGMA, "per_hundred", 0.0), (JPEG_QUALITY, "jpeg_error", 100.0)],
)
def test_a_level_that_cannot_count_as_one_is_refused(axis, normalisation, far):
    with pytest.raises(UserError, match=r"z is \S+ at far=.*choose a level"):
        axis.counted(normalisation, far=far)
    with pytest.raises(UserError, match=r"far of the axis .* finite number or None, not 'x'"):
        dataclasses.replace(axis, far="x")


def test_levels_need_all_parts():
    for levels in (np.zeros(2), np.zeros((5, 4))):
        with pytest.raises(UserError, match="the 3 parts noise, jpeg, blur"):
            THREE.normalise(levels)
    with pytest.raises(UserError, match="The level has no part blur; give blur, noise, jpeg"):
        TASKS["mixed"].degradation(None, np.zeros((8, 8, 3)), {"noise": 5.0, "jpeg": 40.0})
    # A level holds its parts by name.
    assert TASKS["denoise"].degradation(
        jax.random.key(0), np.zeros((8, 8, 3)), ONE.parse(5)
    ).shape == (8, 8, 3)
