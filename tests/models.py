"""Small models shared by tests."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hypernet_jax import Restorer, get_task, make_model
from hypernet_jax.axes import NOISE_SIGMA
from hypernet_jax.tasks import TASKS
from hypernet_jax.training.mesh import make_mesh, place_batch, state_shardings
from hypernet_jax.training.recipes import recipe
from hypernet_jax.training.step import init_state, make_train_step


def tiny_config(task="denoise", colours=3):
    return {
        "task": task,
        "normalisation": [axis.normalisation for axis in TASKS[task].space.axes],
        "network": {
            "name": "residual", "channels": 4, "blocks": 1, "colours": colours,
            "light_tail": True, "residual_output": True, "init_gain": 1.0,
        },
        "features": {"name": "affine"},
        "generated": "",
    }  # fmt: skip


def tiny_theta(config):
    theta = make_model(config).init(jax.random.key(0))
    # Perturbed, because initially all levels give the same network.
    return jax.tree.map(
        lambda x: x + 0.05 * np.float32(np.cos(np.arange(x.size))).reshape(x.shape), theta
    )


def tiny_restorer(task="denoise", colours=3):
    config = tiny_config(task, colours)
    return Restorer(make_model(config), tiny_theta(config), backend="jax")


RESTORER = tiny_restorer()


SMALL = {"channels": (6, 8, 10), "blocks": (1, 1, 1)}


def unet_config(**network):
    return {
        "task": "denoise",
        "normalisation": NOISE_SIGMA.normalisation,
        "network": {"name": "unet"} | SMALL | network,
        "features": {"name": "affine"},
        "generated": "",
    }


def photo_config():
    """A small network for levels with several parts."""
    axes = get_task("photo").space.axes
    return unet_config() | {
        "task": "photo",
        "normalisation": [axis.normalisation for axis in axes],
        "far": [axis.far for axis in axes],
    }


def random_theta(model):
    """Random theta of moderate size, including slopes and branch exits."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    rng = np.random.default_rng(1)

    def drawn(leaf):
        scale = 0.3 / np.sqrt(max(np.prod(leaf.shape[-3:-1]), 1))
        return (scale * rng.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree.map(drawn, shapes)


def tiny_training_config(dataset, task="denoise"):
    """The real recipe on a tiny network and tiny crops."""
    config = recipe("compact")
    config.task = task
    config.steps = 6
    config.log_every = 2
    config.network.channels, config.network.blocks = 4, 1
    config.levels.low, config.levels.high, config.levels.count = 5.0, 90.0, 2
    config.levels.normalisation = "per_hundred"
    if task == "sr":
        config.levels.low, config.levels.high = 1.5, 5.0
    config.validation.update({"every": 3, "images": 2, "crop_size": 32})
    config.validation.levels = (4.0,) if task == "sr" else (10.0, 50.0)
    config.data.update({"dataset": str(dataset), "crop_size": 16, "crops": 2})
    config.checkpoint.every = 3
    return config


def device_task(name):
    """A task that trains on the chain of its first protocol, which the device computes."""
    task = get_task(name)
    _, protocol = task.protocol(None)
    assert protocol.degradation.traceable
    return dataclasses.replace(task, degradation=protocol.degradation)


def start_training(model, theta, optimizer, *, form, levels=2, crops=2, **options):
    """A mesh of this process' devices, a train step on it, and the state before the first step.

    The state is a copy: theta can be used again.
    """
    mesh = make_mesh(level_devices=1, levels=levels, crops=crops)
    step = make_train_step(
        model=model,
        optimizer=optimizer,
        mesh=mesh,
        form=form,
        **{"seed": 0, "decay": 0.9} | options,
    )
    state = init_state(jax.tree.map(jnp.copy, theta), optimizer)
    return mesh, step, jax.device_put(state, state_shardings(mesh, state, split=False))


def descent(model, theta, batch, *, form, **options):
    """One step of plain gradient descent: the movement of theta, and the metrics."""
    mesh, step, state = start_training(model, theta, optax.sgd(1.0), form=form, **options)
    state, metrics = step(state, place_batch(mesh, batch, form))
    return jax.tree.map(lambda old, new: old - new, theta, state.theta), metrics
