"""Knowledge distillation: a trained network as a part of the target.

What a network cannot know about a noisy crop stays in the difference to the clean one and is most
of it, so it is most of the gradient's noise too. Another network's result has none of it. A new
network reaches the other's quality in a fraction of the steps (docs/results/networks.md).
"""

import dataclasses

import jax
from jaxtyping import Array, Float32, Real

from hypernet_jax.data.levels import BatchForm
from hypernet_jax.errors import UserError
from hypernet_jax.features import Constant
from hypernet_jax.hypernet import Theta
from hypernet_jax.model import Model
from hypernet_jax.tensors import fingerprint_of
from hypernet_jax.training.batches import restore_batch
from hypernet_jax.weights import load_weights

__all__ = ["Teacher", "load_teacher"]


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A trained network (Hinton et al., Distilling the knowledge in a neural network, 2015).

    Attributes:
      model, theta: the network.
      share: of its result in the target, 0 to 1; the rest is the clean crop.
    """

    model: Model
    theta: Theta
    share: float

    @property
    def fingerprint(self) -> str:
        """A hash of the parameters."""
        return fingerprint_of(self.theta)

    def target(
        self,
        clean: Float32[Array, "_ n h w c"],
        degraded: Float32[Array, "k n h w c"],
        levels: Real[Array, "k *s a"],
        form: BatchForm,
    ) -> Float32[Array, "k n h w c"]:
        """What another network is to make of degraded crops; arguments as `degrade_batch` returns
        them."""
        taught = restore_batch(self.model, self.theta, levels, degraded, form)
        return clean + self.share * (taught - clean)


def load_teacher(config, model: Model) -> Teacher | None:
    """The teacher of a training config, or None.

    Raises:
      UserError: if its weights cannot be read, or are for other images or levels.
    """
    name, share = config.distillation.teacher, config.distillation.share
    if not name or not share:
        return None
    teacher, theta = load_weights(name)
    if teacher.task.name != model.task.name:
        raise UserError(
            f"The teacher {name} is for the task {teacher.task.name}, not for {model.task.name}; "
            "choose other weights as config.distillation.teacher."
        )
    if teacher.colours != model.colours:
        raise UserError(
            f"The teacher {name} restores images of {teacher.colours} channels, not of "
            f"{model.colours}; choose other weights, or another config.network.colours."
        )
    if isinstance(teacher.hypernet.features, Constant):
        raise UserError(
            f"The teacher {name} has a single level; choose weights for all levels as "
            "config.distillation.teacher."
        )
    # On the host: the compiler places them on the devices of the mesh.
    return Teacher(teacher, jax.device_get(theta), share)
