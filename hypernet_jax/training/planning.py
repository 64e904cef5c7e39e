"""What a config will cost, before it is trained."""

import jax
import numpy as np

from hypernet_jax.data.levels import LevelSampler
from hypernet_jax.model import Model
from hypernet_jax.training.config import check_config
from hypernet_jax.training.cost import StepCost, step_cost
from hypernet_jax.training.distillation import load_teachers
from hypernet_jax.training.loop import make_parts, make_start
from hypernet_jax.training.mesh import place_batch

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
    model, sampler, mesh = make_parts(config)
    theta = model.init(jax.random.key(config.seed))
    state, step = make_start(config, model, mesh, sampler.form, theta, load_teachers(config, model))
    batch = place_batch(mesh, _black_batch(config, model, sampler), sampler.form)
    return step_cost(step, state, batch)
