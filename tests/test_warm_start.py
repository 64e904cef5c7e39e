"""Training from a plain network, and training only part of theta."""

import json

import chex
import jax
import numpy as np
import pytest

from hypernet_jax import Restorer, UserError, get_task, load_weights, save_weights
from hypernet_jax.cli.main import main
from hypernet_jax.model import make_model, model_config
from hypernet_jax.training.config import config_difference
from hypernet_jax.training.freezing import trainable_mask
from hypernet_jax.training.initial import initial_theta
from hypernet_jax.training.loop import train
from hypernet_jax.training.recipes import recipe, use_task

from .models import tiny_training_config


@pytest.fixture(scope="module")
def plain(default_data, tmp_path_factory):
    """A plain network trained at sigma 25 for a few steps, as weights."""
    folder = tmp_path_factory.mktemp("plain")
    config = tiny_training_config(default_data)
    config.features.name = "constant"
    config.levels.fixed = (25.0,)
    config.steps = 2
    state = train(config, folder / "run", progress=False)
    assert model_config(config)["level"] == 25.0
    save_weights(folder / "plain.safetensors", state.ema, model_config(config))
    return folder / "plain.safetensors"


def warm_config(default_data, plain, frozen=""):
    config = tiny_training_config(default_data)
    config.initial_weights, config.frozen = str(plain), frozen
    config.levels.origin = 25.0
    return config


def test_slopes_alone_make_a_plain_network_adaptive(default_data, plain, tmp_path, photograph):
    config = warm_config(default_data, plain, "^base/")
    config.optimizer.learning_rate, config.optimizer.warmup_steps = 0.02, 0
    state = jax.device_get(train(config, tmp_path / "run", progress=False))
    kernels = jax.device_get(load_weights(plain)[1])["generated"]
    for name in ("theta", "ema"):
        tree = getattr(state, name)
        for path, bank in tree["generated"].items():
            np.testing.assert_array_equal(bank[0], kernels[path][0], err_msg=f"{name}: {path}")
            assert np.abs(bank[1]).max() > 1e-4
    # At its own level it is still the plain network, but not elsewhere.
    output = tmp_path / "adaptive.safetensors"
    main(["weights", str(tmp_path / "run"), "-o", str(output)])
    image = photograph[None, :20, :31] / np.float32(255)
    expected = Restorer.from_pretrained(plain).apply(image, level=25)
    adaptive = Restorer.from_pretrained(output)
    np.testing.assert_allclose(adaptive.apply(image, level=25), expected, atol=1e-6)
    assert np.abs(adaptive.apply(image, level=90) - expected).max() > 1e-3


def test_shared_layers_and_slopes_can_be_frozen(default_data, plain, tmp_path):
    config = warm_config(default_data, plain, "^(slopes|shared)/")
    config.generated = "block_"
    config.optimizer.clip_norm = 1e-3
    state = jax.device_get(train(config, tmp_path / "run", progress=False))
    kernels = jax.device_get(load_weights(plain)[1])["generated"]
    for name in ("theta", "ema"):
        tree = getattr(state, name)
        assert tree["shared"].keys() == {
            f"{layer}/{leaf}"
            for layer in ("head", "body_end", "output")
            for leaf in ("kernel", "bias")
        }
        for path, leaf in tree["shared"].items():
            np.testing.assert_array_equal(leaf, kernels[path][0], err_msg=f"{name}: {path}")
        for path, bank in tree["generated"].items():
            assert (bank[0] != kernels[path][0]).any() and not bank[1].any()


def test_a_pattern_may_name_a_part_of_any_bank():
    config = tiny_training_config("")
    config.task, config.features.name, config.generated = "denoise", "mlp", "block_"
    model = make_model(model_config(config))
    theta = model.init(jax.random.key(0))
    mask = trainable_mask(theta, "^base/.*bias$|^shared/head/|^features/hidden/kernel$")
    assert mask["generated"]["block_0/conv_1/bias"].ravel().tolist() == [0, 1, 1, 1]
    assert mask["generated"]["block_0/conv_1/kernel"].all()
    assert not mask["shared"]["head/kernel"] and mask["shared"]["output/bias"]
    assert not mask["features"]["hidden"]["kernel"] and mask["features"]["output"]["bias"]
    chex.assert_trees_all_equal_structs(mask, theta)
    for pattern in ("no_such_part", "base|slopes|shared|features"):
        with pytest.raises(UserError, match=r"matches (no|every) parameter"):
            trainable_mask(theta, pattern)
    with pytest.raises(UserError, match="not a regular expression"):
        trainable_mask(theta, "(")


def test_a_run_goes_on_with_the_same_config_alone(default_data):
    saved = json.loads(tiny_training_config(default_data).to_json())
    given = json.loads(tiny_training_config(default_data).to_json())
    assert config_difference(saved, given) == []
    given["frozen"] = "^base/"
    assert config_difference(saved, given) == ["config.frozen was '' and is now '^base/'"]
    given["frozen"] = ""
    given["log_every"] = given["log_every"] + 1
    assert config_difference(saved, given) == []


def test_unfit_starts_are_reported(default_data, plain, tmp_path):
    config = warm_config(default_data, plain)
    config.network.channels = 2
    with pytest.raises(UserError, match="do not fit the network"):
        train(config, tmp_path / "wide", progress=False)
    config = warm_config(default_data, plain)
    config.features.name = "proportional"
    with pytest.raises(UserError, match="such as affine"):
        train(config, tmp_path / "proportional", progress=False)
    config = warm_config(default_data, plain)
    config.network.residual_output = False
    with pytest.raises(UserError, match="do not fit the network of the config"):
        train(config, tmp_path / "other", progress=False)
    config = warm_config(default_data, plain)
    config.levels.origin = 250.0
    with pytest.raises(UserError, match="out of range"):
        train(config, tmp_path / "far", progress=False)


def grown_config(default_data, weights, **network):
    config = tiny_training_config(default_data)
    config.initial_weights = str(weights)
    config.network.update(network)
    return config


@pytest.fixture(scope="module")
def small(default_data, tmp_path_factory):
    """Weights of a hypernetwork with nonzero slopes."""
    config = tiny_training_config(default_data)
    config.levels.normalisation = "per_hundred"
    config.generated = "block_"
    model = make_model(model_config(config))
    theta = model.init(jax.random.key(3))
    keys = iter(jax.random.split(jax.random.key(4), 99))
    theta = jax.tree.map(lambda x: x + 0.05 * jax.random.normal(next(keys), x.shape), theta)
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_weights(path, theta, model_config(config))
    return path


@pytest.mark.parametrize(
    "features, network",
    [
        ("affine", {"channels": 7}),
        ("affine", {"blocks": 3}),
        ("polynomial", {"channels": 6, "blocks": 2}),
    ],
)
def test_a_grown_network_begins_as_the_small_one_and_learns(
    default_data, small, photograph, features, network
):
    config = grown_config(default_data, small, **network)
    config.features.name, config.generated = features, "block_"
    model = make_model(model_config(config))
    theta = initial_theta(config, model)
    chex.assert_trees_all_equal_shapes(theta, model.init(jax.random.key(0)))
    image = photograph[None, :20, :31] / np.float32(255)
    before = Restorer.from_pretrained(small)
    for level in (0.0, 25.0, 90.0):
        np.testing.assert_allclose(
            model.apply(model.generate(theta, level), image),
            before.apply(image, level=level),
            atol=1e-5,
        )
    # The gradient reaches all added weights.
    gradient = jax.grad(lambda t: jax.numpy.mean(model.apply(model.generate(t, 50.0), image) ** 2))(
        theta
    )
    chex.assert_tree_all_finite(gradient)
    if "channels" in network:
        added = gradient["generated"]["block_0/conv_1/kernel"][0, :, :, 4:, :4]
        assert np.abs(added).max() > 0
    if "blocks" in network:
        assert np.abs(gradient["generated"]["block_1/conv_2/kernel"][0]).max() > 0


def test_features_of_weights_are_expressed_in_others(default_data, small):
    def generated(config, level):
        model = make_model(model_config(config))
        return model.generate(initial_theta(config, model), level)

    source, theta = load_weights(small)
    config = grown_config(default_data, small)
    config.generated = "block_"
    # Independent networks start as the networks that the weights generate at their levels.
    config.features.name = "independent"
    config.features.levels = config.levels.fixed = (15.0, 80.0)
    for level in (15.0, 80.0):
        expected = source.generate(theta, level)
        chex.assert_trees_all_close(generated(config, level), expected, atol=1e-6)
    # A bank with another origin generates the same networks.
    config.features.name, config.features.levels, config.levels.fixed = "affine", (), ()
    config.levels.origin = 30.0
    for far in (None, 60.0):
        config.levels.far = far
        for level in (0.0, 30.0, 90.0):
            expected = source.generate(theta, level)
            chex.assert_trees_all_close(generated(config, level), expected, atol=1e-5)


def test_features_that_cannot_express_those_of_the_weights_are_refused(default_data, small):
    def begin(task="denoise", **features):
        config = grown_config(default_data, small)
        config.task, config.generated = task, "block_"
        config.features.update(features)
        return initial_theta(config, make_model(model_config(config)))

    chex.assert_tree_all_finite(begin("dejpeg"))  # the same bank, for another task
    with pytest.raises(UserError, match="cannot express"):
        begin(name="proportional")
    with pytest.raises(UserError, match="for the task denoise"):
        begin("dejpeg", name="polynomial")


def test_a_network_does_not_shrink(default_data, small, tmp_path):
    for network in ({"channels": 2}, {"channels": 8, "light_tail": False}):
        config = grown_config(default_data, small, **network)
        config.generated = "block_"
        with pytest.raises(UserError, match="do not fit the network of the config"):
            train(config, tmp_path / "run", progress=False)


def after_photo(task):
    """The config and model of a task that starts from the weights of `photo`."""
    config = recipe("unet")
    space = get_task(task).space
    use_task(config, task, (space.low.plain(), space.high.plain()))
    config.initial_weights = "photo"
    return config, make_model(model_config(config))


@pytest.mark.parametrize(
    "task, level",
    [
        ("deblur", 1.5),
        ("denoise", 20),
        ("dejpeg", 40),
        ("mixed", {"blur": 1, "noise": 15, "jpeg": 60}),
    ],
)
def test_slopes_follow_the_parts_of_the_level(task, level):
    """The network for a level stays that for the same degradation in the task of the source."""
    config, model = after_photo(task)
    source, theta = load_weights("photo")
    parts = model.task.space.parse(level)
    chex.assert_trees_all_close(
        model.generate(initial_theta(config, model), parts.array),
        source.generate(theta, source.task.space.parse(parts.named).array),
        atol=1e-6,
    )


def test_levels_without_a_common_part_are_refused():
    with pytest.raises(UserError, match="no part in common"):
        initial_theta(*after_photo("sr"))
