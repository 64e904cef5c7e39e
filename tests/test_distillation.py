"""Training with another network's results as a part of the target."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hypernet_jax import UserError, make_model, save_weights
from hypernet_jax.data.levels import BatchForm
from hypernet_jax.model import model_config
from hypernet_jax.training.batches import degrade_batch, restore_batch
from hypernet_jax.training.distillation import Teacher, Teachers, load_teachers
from hypernet_jax.training.loop import train
from hypernet_jax.training.mesh import make_mesh
from hypernet_jax.training.step import init_state, make_train_step

from .models import descent, tiny_config, tiny_theta, tiny_training_config


def _batch(form: BatchForm):
    rng = np.random.default_rng(0)
    levels = {
        "step": np.float32([[10], [60]]),
        "crop": np.float32([[[10], [20]], [[60], [70]]]),
        "pixel": np.float32([[[[10], [40]], [[20], [20]]], [[[60], [0]], [[70], [5]]]]),
    }[form.per]
    return {
        "clean": rng.integers(0, 256, (2, 2, 16, 16, 3), dtype=np.uint8),
        "ids": np.arange(4, dtype=np.int32).reshape(2, 2),
        "levels": levels,
    }


OWN_CROPS = BatchForm(own_crops=True)


def _moved(theta, teachers, form=OWN_CROPS):
    model = make_model(tiny_config())
    return descent(model, theta, _batch(form), form=form, loss="l2", teachers=teachers)


def test_the_target_is_a_mean_of_the_clean_crop_and_the_teachers_result():
    model, form = make_model(tiny_config()), BatchForm(own_crops=True)
    theta, other = model.init(jax.random.key(1)), tiny_theta(tiny_config())
    batch = _batch(form)
    clean, degraded, levels = degrade_batch(jax.random.key(0), model.task, batch, form)
    target = 0.25 * clean + 0.75 * model.restore_levels(other, levels, degraded)

    def loss(theta):
        return jnp.mean(jnp.square(model.restore_levels(theta, levels, degraded) - target))

    moved, metrics = _moved(theta, Teachers((Teacher(model, other),), 0.75))
    chex.assert_trees_all_close(moved, jax.grad(loss)(theta), rtol=1e-3, atol=1e-6)
    # The reported PSNR is that to the clean crop.
    assert float(metrics["psnr"]) == pytest.approx(float(_moved(theta, None)[1]["psnr"]), rel=1e-6)


@pytest.mark.parametrize("per", ["step", "crop", "pixel"])
def test_a_network_has_nothing_to_learn_from_itself(per):
    model, theta = make_model(tiny_config()), tiny_theta(tiny_config())
    form = BatchForm(per=per, own_crops=True)
    moved, _ = _moved(theta, Teachers((Teacher(model, theta),), 1.0), form)
    others, _ = _moved(theta, None, form)
    assert optax.tree.norm(moved) < 1e-6 < 1e-3 < optax.tree.norm(others)


@pytest.mark.parametrize("per", ["step", "pixel"])
def test_every_view_and_every_teacher_is_drawn_and_turned_back(per):
    model, form = make_model(tiny_config()), BatchForm(per=per, own_crops=True)
    clean, degraded, levels = degrade_batch(jax.random.key(0), model.task, _batch(form), form)
    thetas = tiny_theta(tiny_config()), model.init(jax.random.key(1))
    teachers = Teachers(tuple(Teacher(model, theta) for theta in thetas), 1.0, views=True)

    def turned(images, view):
        turns, mirrored = view % 4, view >= 4
        return np.rot90(images[..., ::-1, :] if mirrored else images, turns, axes=(2, 3))

    expected = []
    for theta in thetas:
        for view in range(8):
            seen = turned(degraded, view)
            of_pixels = turned(levels, view) if per == "pixel" else levels
            restored = restore_batch(model, theta, of_pixels, seen, form)
            restored = np.rot90(restored, -(view % 4), axes=(2, 3))
            expected.append(restored[..., ::-1, :] if view >= 4 else restored)
    target = jax.jit(lambda key: teachers.target(key, clean, degraded, levels, form))
    drawn = set()
    for seed in range(150):
        drawn_target = np.asarray(target(jax.random.key(seed)))
        errors = [np.abs(drawn_target - each).max() for each in expected]
        assert sum(error < 1e-5 for error in errors) == 1
        drawn.add(int(np.argmin(errors)))
    assert len(drawn) == len(expected)


def test_every_step_draws_its_teacher():
    model = make_model(tiny_config())
    thetas = tiny_theta(tiny_config()), model.init(jax.random.key(1))
    teachers = Teachers(tuple(Teacher(model, theta) for theta in thetas), 1.0)
    optimizer = optax.sgd(0.0)
    mesh = make_mesh(level_devices=1, levels=2, crops=2)
    step = make_train_step(
        model=model, optimizer=optimizer, mesh=mesh, seed=0, decay=0.0, form=OWN_CROPS, loss="l2",
        teachers=teachers,
    )  # fmt: skip
    state = init_state(tiny_theta(tiny_config()), optimizer)
    norms = []
    for _ in range(8):
        state, metrics = step(state, _batch(OWN_CROPS))
        norms.append(float(metrics["gradient_norm"]))
    # Where the first teacher is drawn, the network has nothing to learn.
    learned = [norm > 1e-3 for norm in norms]
    assert any(learned) and not all(learned)


def test_a_run_with_a_teacher(default_data, tmp_path):
    config = tiny_training_config(default_data)
    assert load_teachers(config, make_model(model_config(config))) is None
    file = tmp_path / "teacher.safetensors"
    save_weights(file, tiny_theta(tiny_config()), tiny_config())
    config.distillation.teachers = (str(file),)
    for dtype in ("float32", "bfloat16"):
        config.compute_dtype = dtype
        (teacher,) = load_teachers(config, make_model(model_config(config))).networks
        assert teacher.model.network.dtype == dtype
    config.compute_dtype = "float32"
    taught = train(config, tmp_path / "taught", progress=False)
    # The same teacher in another place, but no other one in its place.
    moved = file.rename(tmp_path / "moved.safetensors")
    config.distillation.teachers = (str(moved),)
    train(config, tmp_path / "taught", progress=False)
    other = jax.tree.map(lambda leaf: 1.5 * leaf, tiny_theta(tiny_config()))
    save_weights(moved, other, tiny_config(), overwrite=True)
    with pytest.raises(UserError, match=r"with other teachers so far; .* config\.distillation"):
        train(config, tmp_path / "taught", progress=False)
    config.distillation.share = 0.0
    alone = train(config, tmp_path / "alone", progress=False)
    changed = jax.tree.map(lambda a, b: a - b, taught.theta, alone.theta)
    assert optax.tree.norm(changed) > 1e-5


def test_mistakes(tmp_path):
    config = tiny_training_config("")
    model = make_model(model_config(config))

    def refused(**changes):
        weights = tiny_config(changes.pop("task", "denoise"), changes.pop("colours", 3)) | changes
        file = tmp_path / "weights.safetensors"
        save_weights(file, make_model(weights).init(jax.random.key(0)), weights, overwrite=True)
        config.distillation.teachers = (str(file),)
        with pytest.raises(UserError) as error:
            load_teachers(config, model)
        return str(error.value)

    assert "for the task deblur, not for denoise" in refused(task="deblur")
    assert "images of 1 channels, not of 3" in refused(colours=1)
    plain = {"features": {"name": "constant"}, "level": 25.0}
    assert "a single level" in refused(**plain)
    config.distillation.teachers = (str(tmp_path / "none.safetensors"),)
    with pytest.raises(UserError, match=r"none\.safetensors"):
        load_teachers(config, model)
