"""What a config will cost, before it is trained."""

import jax
import numpy as np

from hypernet_jax.data.levels import LevelSampler
from hypernet_jax.model import Model, make_model, model_config
from hypernet_jax.training.config import check_config
from hypernet_jax.training.cost import StepCost, step_cost
from hypernet_jax.training.distillation import load_teacher
from hypernet_jax.training.loop import make_sampler
from hypernet_jax.training.mesh import make_mesh, place_batch, state_shardings
from hypernet_jax.training.optimizer import make_optimizer
from hypernet_jax.training.step import init_state, make_train_step

__all__ = ["cost_of_config"]


def _black_batch(config, model: Model, sampler: LevelSampler) -> dict[str, np.ndarray]:
    """A batch as the pipeline of a training run makes them, of black crops."""
    size, crops, form = config.data.crop_size, config.data.crops, sampler.form
    sets = (sampler.levels, crops) if form.own_crops else (crops,)
    batch = {
        "clean": np.zeros((*sets, size, size, model.colours), np.uint8),
        "ids": np.zeros(sets, np.int32),
        "levels": sampler(np.random.default_rng(0), crops=crops),
    }
    if not model.task.degradation.traceable:
        shape = (sampler.levels, crops, size, size, model.colours)
        dtype = np.uint8 if model.task.degradation.quantises else np.float32
        batch["degraded"] = np.zeros(shape, dtype)
    return batch


def cost_of_config(config) -> StepCost:
    """What a training step of a config costs on the devices of this process.

    Raises:
      UserError: if the config is not valid, or does not fit the devices.
    """
    check_config(config)
    model = make_model(
        model_config(config),
        compute_dtype=config.compute_dtype,
        level_form=config.level_form,
        remat=config.remat,
    )
    sampler = make_sampler(config)
    mesh = make_mesh(
        level_devices=config.level_devices, levels=sampler.levels, crops=config.data.crops
    )
    optimizer = make_optimizer(config.optimizer, config.steps)
    state = init_state(model.init(jax.random.key(0)), optimizer)
    shardings = state_shardings(mesh, state, split=config.shard_state)
    step = make_train_step(
        model=model,
        optimizer=optimizer,
        mesh=mesh,
        seed=config.seed,
        decay=config.ema_decay,
        form=sampler.form,
        loss=config.loss,
        weighting=config.levels.weighting,
        balance=config.balance,
        teacher=load_teacher(config, model),
        shardings=shardings,
    )
    batch = place_batch(mesh, _black_batch(config, model, sampler), sampler.form)
    return step_cost(step, jax.device_put(state, shardings), batch)
