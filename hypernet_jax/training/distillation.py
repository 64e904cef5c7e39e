"""Knowledge distillation: the results of trained networks as a part of the target.

What a network cannot know about a noisy crop stays in the difference to the clean one and is most
of it, so it is most of the gradient's noise too. Another network's result has none of it. A new
network reaches the others' quality in a fraction of the steps (docs/results/networks.md).
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
from jax import lax
from jaxtyping import Array, Float32, Int, Key, Real, Shaped

from hypernet_jax.data.levels import BatchForm
from hypernet_jax.errors import UserError
from hypernet_jax.features import Constant
from hypernet_jax.hypernet import Theta
from hypernet_jax.model import Model, make_model
from hypernet_jax.symmetries import VIEWS, View, seen_from, turned_back
from hypernet_jax.training.batches import restore_batch
from hypernet_jax.weights import load_weights_and_config

__all__ = ["Teacher", "Teachers", "load_teachers"]


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A trained network."""

    model: Model
    theta: Theta


@dataclasses.dataclass(frozen=True)
class Teachers:
    """Trained networks (Hinton et al., Distilling the knowledge in a neural network, 2015).

    Attributes:
      networks: each step draws one. The target is on average the mean of them all, which is often
        better than each, for the time of one.
      share: of a teacher's result in the target, 0 to 1; the rest is the clean crop.
      views: whether the teacher sees each step's crops in a random one of the eight symmetries of
        the square. The target is on average that of a self-ensemble (Timofte, Rothe and Van Gool,
        CVPR 2016).
    """

    networks: tuple[Teacher, ...]
    share: float
    views: bool = False

    @property
    def fingerprint(self) -> str:
        """A hash of the networks."""
        return ",".join(each.model.fingerprint(each.theta) for each in self.networks)

    def target(
        self,
        key: Key[Array, ""],
        clean: Float32[Array, "_ n h w c"],
        degraded: Float32[Array, "k n h w c"],
        levels: Real[Array, "k *s a"],
        form: BatchForm,
    ) -> Float32[Array, "k n h w c"]:
        """What another network is to make of degraded crops.

        Args:
          key: of this step; draws the teacher and the view.
          clean, degraded, levels: as `degrade_batch` returns them; the crops are square for views.
          form: of the batch.
        """
        of_view, of_teacher = jax.random.split(key)
        view = jax.random.randint(of_view, (), 0, len(VIEWS)) if self.views else None
        seen = _in_view(seen_from, view, degraded)
        if form.per == "pixel":
            levels = _in_view(seen_from, view, levels)
        restores = [
            functools.partial(_restored, teacher, form=form, levels=levels)
            for teacher in self.networks
        ]
        chosen = jax.random.randint(of_teacher, (), 0, len(restores))
        taught = _in_view(turned_back, view, lax.switch(chosen, restores, seen))
        return clean + self.share * (taught - clean)


def _restored(
    teacher: Teacher,
    degraded: Float32[Array, "k n h w c"],
    *,
    form: BatchForm,
    levels: Real[Array, "k *s a"],
) -> Float32[Array, "k n h w c"]:
    return restore_batch(teacher.model, teacher.theta, levels, degraded, form)


def _in_view(
    turn: Callable[[View, Array], Array],
    view: Int[Array, ""] | None,
    images: Shaped[Array, "k n side side c"],
) -> Shaped[Array, "k n side side c"]:
    """`seen_from` or `turned_back` for the view of that index; the images for None."""
    if view is None:
        return images
    return lax.switch(view, [functools.partial(turn, each) for each in VIEWS], images)


def load_teachers(config, model: Model) -> Teachers | None:
    """The teachers of a training config, or None.

    Raises:
      UserError: if weights cannot be read, or are for other images or levels.
    """
    names, share = config.distillation.teachers, config.distillation.share
    if not names or not share:
        return None
    networks = tuple(_load_teacher(name, model, config.compute_dtype) for name in names)
    return Teachers(networks, share, config.distillation.views)


def _load_teacher(name: str, model: Model, compute_dtype: str) -> Teacher:
    _, theta, described = load_weights_and_config(name)
    teacher = make_model(described, compute_dtype=compute_dtype)
    if teacher.task.name != model.task.name:
        raise UserError(
            f"The teacher {name} is for the task {teacher.task.name}, not for {model.task.name}; "
            "choose other weights in config.distillation.teachers."
        )
    if teacher.colours != model.colours:
        raise UserError(
            f"The teacher {name} restores images of {teacher.colours} channels, not of "
            f"{model.colours}; choose other weights, or another config.network.colours."
        )
    if isinstance(teacher.hypernet.features, Constant):
        raise UserError(
            f"The teacher {name} has a single level; choose weights for all levels in "
            "config.distillation.teachers."
        )
    # On the host: the compiler places them on the devices of the mesh.
    return Teacher(teacher, jax.device_get(theta))
