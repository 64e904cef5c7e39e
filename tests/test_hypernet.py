"""The hypernetwork maps levels to parameter pytrees, for any network and features."""

import dataclasses
import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hypernet_jax import (
    NOISE_SIGMA,
    Affine,
    HyperNetwork,
    LevelSpace,
    Mlp,
    Polynomial,
    Proportional,
    UserError,
    count_parameters,
    path_matches,
)
from hypernet_jax.features import Independent, make_features
from hypernet_jax.networks import ResidualNetwork, apply_network, init_network
from hypernet_jax.tasks import TASKS

LEVELS = (5.0, 25.0, 50.0, 75.0)
SPACE = LevelSpace.of(NOISE_SIGMA)
AXES = [axis for task in TASKS.values() for axis in task.space.axes]
NETWORK = ResidualNetwork(channels=8, blocks=2)
FEATURES = {
    "affine": Affine(),
    "proportional": Proportional(),
    "polynomial": Polynomial(3),
    "mlp": Mlp(),
}


class UNet(nn.Module):
    """A network independent of this package: plain convolutions, norm and a skip."""

    @nn.compact
    def __call__(self, image):
        top = nn.relu(nn.Conv(8, (3, 3))(image))
        down = nn.relu(nn.GroupNorm(4)(nn.Conv(16, (3, 3), strides=2)(top)))
        up = nn.relu(nn.ConvTranspose(8, (2, 2), strides=(2, 2))(down))
        return nn.Conv(3, (3, 3))(jnp.concatenate([top, up], axis=-1))


def make(network=NETWORK, features=None, pattern=""):
    template = init_network(jax.random.key(0), network)
    hypernet = HyperNetwork(SPACE, features or Affine(), path_matches(pattern))
    return hypernet, hypernet.init(jax.random.key(1), template), template


def perturbed(theta):
    """Theta with all values perturbed: slopes start at zero, which would hide mistakes."""
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: x + np.float32(0.05 * rng.standard_normal(x.shape)), theta)


class HyperNetworkTest(chex.TestCase):
    @parameterized.parameters(*FEATURES)
    def test_generated_tree_has_the_networks_structure(self, name):
        hypernet, theta, template = make(features=FEATURES[name])
        params = hypernet.generate(theta, 25)
        chex.assert_trees_all_equal_shapes_and_dtypes(params, template)
        chex.assert_trees_all_equal_structs(params, template)

    @parameterized.parameters(*FEATURES)
    def test_starts_as_the_template_in_scale(self, name):
        hypernet, theta, template = make(features=FEATURES[name])
        if name == "proportional":
            # Without a constant feature this holds on average over the range, not at every level.
            scales = [
                params["head"]["kernel"].std() / template["head"]["kernel"].std()
                for params in (hypernet.generate(theta, level) for level in range(101))
            ]
            assert 0.6 < np.mean(scales) < 1.4
        else:
            for level in LEVELS:
                params = hypernet.generate(theta, level)
                chex.assert_trees_all_close(params, template, rtol=1e-5, atol=1e-7)

    def test_independent_networks_all_start_as_the_template(self):
        # So close that no sample point of a fit is nearest to the middle one.
        centres = (0.01, 0.02, 0.03)
        hypernet, theta, template = make(features=Independent(tuple((z,) for z in centres)))
        for centre in centres:
            params = hypernet.generate(theta, 100 * centre)
            chex.assert_trees_all_close(params, template)

    @chex.variants(with_jit=True, without_jit=True)
    def test_independent_and_interpolated_features_are_those_of_numpy(self):
        centres = (0.6, 0.1, 0.95)  # in no order
        order = np.argsort(centres)
        independent, interpolated = (
            self.variant(
                functools.partial(make_features(name, centres=[(z,) for z in centres]), {})
            )
            for name in ("independent", "interpolated")
        )
        for z in (*np.linspace(-0.3, 1.3, 33, dtype=np.float32), *np.float32(centres)):
            nearest = np.eye(3)[np.argmin(np.abs(np.subtract(centres, z)))]
            np.testing.assert_array_equal(independent(z[None]), nearest)
            between = [np.interp(z, np.sort(centres), np.eye(3)[i][order]) for i in range(3)]
            np.testing.assert_allclose(interpolated(z[None]), between, atol=1e-6)
        # With a single centre all levels map to it.
        for name in ("independent", "interpolated"):
            np.testing.assert_array_equal(
                make_features(name, centres=((0.5,),))({}, jnp.float32([0.2])), [1.0]
            )

    @chex.variants(with_jit=True, without_jit=True)
    @parameterized.parameters(*FEATURES)
    def test_vmap_over_levels_equals_separate_applies(self, name):
        hypernet, theta, _ = make(features=FEATURES[name])
        theta = perturbed(theta)
        images = jax.random.uniform(jax.random.key(3), (len(LEVELS), 2, 10, 12, 3))

        def restore(level, image):
            return apply_network(NETWORK, hypernet.generate(theta, level), image)

        together = self.variant(jax.vmap(restore))(jnp.array(LEVELS), images)
        one = jax.jit(restore)
        apart = jnp.stack([one(lv, im) for lv, im in zip(LEVELS, images, strict=True)])
        chex.assert_trees_all_close(together, apart, rtol=1e-5, atol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_gradient_of_the_loss_over_levels_is_the_mean_of_gradients(self):
        hypernet, theta, _ = make(pattern="block_")
        theta = perturbed(theta)
        images = jax.random.uniform(jax.random.key(3), (len(LEVELS), 1, 8, 8, 3))

        def loss(theta, level, image):
            restored = apply_network(NETWORK, hypernet.generate(theta, level), image)
            return jnp.mean(jnp.square(restored - 0.5))

        def mean_loss(theta):
            return jnp.mean(jax.vmap(loss, in_axes=(None, 0, 0))(theta, jnp.array(LEVELS), images))

        together = self.variant(jax.grad(mean_loss))(theta)
        one = jax.jit(jax.grad(loss))
        apart = [one(theta, lv, im) for lv, im in zip(LEVELS, images, strict=True)]
        mean = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *apart)
        chex.assert_trees_all_close(together, mean, rtol=1e-4, atol=1e-6)

    def test_one_trace_serves_any_form_of_level(self):
        hypernet, theta, _ = make()

        @jax.jit
        @chex.assert_max_traces(n=1)
        def generate(level):
            return hypernet.generate(theta, level)

        forms = (25, 25.0, np.float64(25), np.int32(25), jnp.array(25.0), "25")
        results = [generate(SPACE.parse(form).array) for form in forms]
        for result in results[1:]:
            chex.assert_trees_all_equal(result, results[0])

    def test_a_single_parameter_can_be_shared_or_generated(self):
        _, theta, template = make(pattern="block_1/conv_2/kernel$")
        assert list(theta["generated"]) == ["block_1/conv_2/kernel"]
        assert len(theta["shared"]) == len(jax.tree.leaves(template)) - 1

    def test_an_unrelated_network_becomes_adaptive(self):
        network = UNet()
        hypernet, theta, template = make(network, pattern="Conv_|GroupNorm")
        theta = perturbed(theta)
        image = jax.random.uniform(jax.random.key(3), (1, 16, 16, 3))
        params = hypernet.generate(theta, 30.0)
        chex.assert_trees_all_equal_structs(params, template)
        apply = jax.jit(lambda params: network.apply({"params": params}, image))
        restored = jax.jit(jax.vmap(lambda lv: apply(hypernet.generate(theta, lv))))(
            jnp.array([10.0, 30.0])
        )
        chex.assert_trees_all_close(restored[1], apply(params), rtol=1e-4, atol=1e-5)
        assert float(jnp.abs(restored[0] - restored[1]).max()) > 1e-3
        chex.assert_trees_all_equal(
            params["ConvTranspose_0"]["kernel"], theta["shared"]["ConvTranspose_0/kernel"]
        )

    def test_a_pattern_that_matches_nothing_is_refused(self):
        with pytest.raises(UserError, match="head/kernel"):
            make(pattern="no_such_layer")


@settings(max_examples=30)
@given(st.floats(0.5, 100.0), st.floats(0.5, 100.0))
def test_proportional_parameters_have_the_ratio_of_their_levels(i, j):
    hypernet, theta, _ = make(features=Proportional())
    at_i, at_j = hypernet.generate(theta, i), hypernet.generate(theta, j)
    scaled = jax.tree.map(lambda leaf: leaf * np.float32(i / j), at_j)
    chex.assert_trees_all_close(at_i, scaled, rtol=2e-6, atol=1e-12)


@settings(max_examples=30)
@given(st.floats(0.0, 100.0), st.floats(0.0, 100.0), st.floats(0.0, 1.0))
def test_affine_parameters_are_collinear(a, b, t):
    hypernet, theta, _ = make()
    theta = perturbed(theta)
    between = hypernet.generate(theta, (1 - t) * a + t * b)
    line = jax.tree.map(
        lambda x, y: (1 - t) * x + t * y, hypernet.generate(theta, a), hypernet.generate(theta, b)
    )
    chex.assert_trees_all_close(between, line, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("colours", "generated", "trainable"), [(3, 1406787, 2588483), (1, 1404481, 2586177)]
)
def test_published_network_to_the_parameter(colours, generated, trainable):
    network = ResidualNetwork(colours=colours)
    template = jax.eval_shape(lambda: init_network(jax.random.key(0), network))
    hypernet = HyperNetwork(SPACE, Affine(), path_matches("block_"))
    theta = jax.eval_shape(
        lambda: hypernet.init(jax.random.key(1), init_network(jax.random.key(0), network))
    )
    assert count_parameters(template) == generated
    assert count_parameters(theta) == trainable
    assert count_parameters(theta["generated"]) == 2 * 1_181_696


@settings(max_examples=30)
@given(st.sampled_from(AXES), st.integers(0, 100), st.integers(0, 100))
def test_z_is_zero_at_the_origin_and_one_at_the_far_end(scale, i, j):
    origin, far = (scale.low + (scale.high - scale.low) * share / 100 for share in (i, j))
    plain = dataclasses.replace(scale, origin=None, far=None)
    apart = abs(float(plain.normalise(origin)) - float(plain.normalise(far)))
    assume(apart > 1e-2)
    scale = dataclasses.replace(scale, origin=origin, far=far)
    # The closer the ends, the fewer digits their difference has in float32.
    z = scale.normalise(np.array([origin, far]))
    np.testing.assert_allclose(z, [0, 1], atol=1e-6 / min(apart, 1.0))


def test_features_of_several_levels_at_once():
    z = jnp.array([0.2, 0.7])
    chex.assert_trees_all_close(Affine()({}, z), jnp.array([1.0, 0.2, 0.7]))
    squares = jnp.array([1.0, 0.2, 0.7, 0.04, 0.14, 0.49])
    chex.assert_trees_all_close(Polynomial(2)({}, z), squares)


def test_unknown_features_are_refused():
    with pytest.raises(UserError, match="affine, proportional, polynomial, mlp"):
        make_features("fourier")
    with pytest.raises(UserError, match="No feature map has an option 'width'"):
        make_features("affine", width=3)
    with pytest.raises(UserError, match="give 1 to 10"):
        make_features("polynomial", degree=0)
    assert make_features("polynomial", degree=3, hidden=7) == Polynomial(3)
    assert make_features("affine", degree=3, hidden=7) == Affine()


def test_odd_sizes_are_padded_not_cropped():
    params = init_network(jax.random.key(0), NETWORK)
    image = jax.random.uniform(jax.random.key(1), (1, 11, 7, 3))
    assert apply_network(NETWORK, params, image).shape == image.shape
    padded = jnp.pad(image, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="symmetric")
    chex.assert_trees_all_close(
        apply_network(NETWORK, params, image),
        apply_network(NETWORK, params, padded)[:, :11, :7],
        rtol=1e-6,
    )


@pytest.mark.parametrize("degree", [1, 5, 10])
@pytest.mark.parametrize("axis", AXES, ids=repr)
def test_slopes_start_at_zero(axis, degree):
    """Of whatever precision least squares is; also for a single level."""
    for space in (LevelSpace.of(axis), LevelSpace.of(axis).at(axis.low)):
        hypernet = HyperNetwork(space, Polynomial(degree))
        theta = hypernet.init(jax.random.key(0), {"kernel": jnp.ones(2)})
        expected = np.zeros((degree + 1, 2))
        expected[0] = 1
        np.testing.assert_array_equal(theta["generated"]["kernel"], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NOISE_SIGMA,), "is a LevelAxis; give a LevelSpace"),
        ((SPACE, Affine(), "block_"), "give a function of the path"),
        ((TASKS["photo"].space, Mlp()), r"levels of 1 parts, and these have 3; give Mlp\(axes=3"),
    ],
)
def test_a_hypernetwork_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        HyperNetwork(*arguments)


def test_levels_are_not_rounded_on_accelerators():
    """Products that kernels are mixed by are exact; those of images may be rounded."""
    hypernet, theta, _ = make(features=Mlp())
    text = jax.jit(hypernet.generate).lower(theta, 30.0).as_text()
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) > 3 and all("HIGHEST" in line for line in products)
