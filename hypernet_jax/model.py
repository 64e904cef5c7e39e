"""A model: network, hypernetwork and task, built from one plain dict.

Training configs, checkpoints and the metadata of weights all hold this dict,
so a model can be rebuilt from any of them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, Real

from hypernet_jax.errors import UserError
from hypernet_jax.features import Constant, make_features
from hypernet_jax.hypernet import HyperNetwork, Theta, count_parameters, path_matches
from hypernet_jax.levels import LevelSpace
from hypernet_jax.networks import (
    apply_bank,
    apply_network,
    init_network,
    make_network,
    spec_of,
)
from hypernet_jax.programs import compiled
from hypernet_jax.runtime import start_jax
from hypernet_jax.tasks import Task, get_task
from hypernet_jax.tensors import fingerprint_of
from hypernet_jax.trained_levels import check_trained_levels, trained_levels

__all__ = ["LEVEL_FORMS", "Model", "make_model", "missing_fields", "model_config"]

LEVEL_FORMS = ("unrolled", "vmap", "wide")


def _check_floats(images: Any) -> None:
    dtype = jnp.result_type(images)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise UserError(
            f"A network takes images in [0, 1] as floats, not {dtype}; divide them by 255, or use "
            "Restorer.restore."
        )


@dataclasses.dataclass(frozen=True)
class Model:
    """A model without its trained parameters. All methods are pure.

    `level_form` sets how several levels are computed at once: "unrolled", one network
    per level, each with its own dense convolutions, the fastest on CPUs
    (benchmarks/train_step.py); "vmap", one network in which only the convolutions are unrolled
    (`level_conv`); or "wide", one network whose convolutions take the whole bank
    (`networks.apply_bank`). All are equivalent to `jax.vmap` over the levels.

    `remat`: the backward pass of unrolled levels recomputes the activations of one network at a
    time, so that those of all levels are never held at once.
    """

    task: Task
    network: nn.Module
    hypernet: HyperNetwork
    level_form: str = "unrolled"
    remat: bool = False

    def __post_init__(self):
        if self.level_form not in LEVEL_FORMS:
            raise UserError(
                f"The level form {self.level_form!r} is unknown; choose one of "
                f"{', '.join(LEVEL_FORMS)}."
            )

    def init(self, key: jax.Array) -> Theta:
        """Initialises theta."""
        return _initial(self.network, self.hypernet, key)

    def shapes(self) -> dict[str, Any]:
        """Theta's shapes and types, a tree of `jax.ShapeDtypeStruct`."""
        return compiled(_initial, self.network, self.hypernet).eval_shape(jax.random.key(0))

    def fingerprint(self, theta: Theta) -> str:
        """A SHA-256 hash, in hexadecimal, that differs for networks that restore differently."""
        # Equal parameters make different networks where these differ.
        parts = self.network, self.hypernet.features, self.hypernet.space, self.task.name
        return fingerprint_of(theta, called="; ".join(map(repr, parts)))

    def generate(self, theta: Theta, level: ArrayLike) -> dict:
        """Parameters of the restoration network for one level, (A,) in native units."""
        return self.hypernet.generate(theta, level)

    def apply(self, params: dict, image: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Restores (N, H, W, C) images in [0, 1] with generated parameters.

        Raises:
          UserError: for an array of whole numbers; so do the other methods.
        """
        _check_floats(image)
        return apply_network(self.network, params, image)

    def restore_levels(
        self,
        theta: Theta,
        levels: Real[Array, "k a"],
        images: Float[Array, "k n h w c"],
    ) -> Float[Array, "k n h w c"]:
        """Restores images at many levels at once.

        Args:
          theta: the hypernetwork's parameters.
          levels: (K, A) in native units.
          images: (K, N, H, W, C) in [0, 1], N images degraded to each level.

        Returns:
          (K, N, H, W, C).

        Raises:
          UserError: if there are no levels, or not as many as stacks of images.
        """
        if not 0 < levels.shape[0] == images.shape[0]:
            raise UserError(
                f"There are {levels.shape[0]} levels for {images.shape[0]} stacks of images; give "
                "one stack, (N, H, W, C), for each level."
            )
        if self.level_form == "wide":
            levels = jnp.repeat(levels, images.shape[1], axis=0)
            flat = images.reshape((-1, *images.shape[2:]))
            return self.restore_each(theta, levels, flat).reshape(images.shape)

        def restore(level, image):
            return self.apply(self.generate(theta, level), image)

        if self.level_form == "vmap":
            return jax.vmap(restore)(levels, images)
        if self.remat:
            restore = jax.checkpoint(restore)
        # Feature maps of different levels are never stacked, which would copy all of them.
        return jnp.stack([restore(levels[k], images[k]) for k in range(images.shape[0])])

    def restore_each(
        self, theta: Theta, levels: Real[Array, "n a"], images: Float[Array, "n h w c"]
    ) -> Float[Array, "n h w c"]:
        """Restores images, each at its own level.

        Args:
          theta: the hypernetwork's parameters.
          levels: (N, A) in native units.
          images: (N, H, W, C) in [0, 1].

        Returns:
          (N, H, W, C).

        Raises:
          UserError: if there are not as many levels as images.
        """
        _check_floats(images)
        if levels.shape[0] != images.shape[0]:
            raise UserError(
                f"There are {levels.shape[0]} levels for {images.shape[0]} images; give one for "
                "each."
            )
        phi = self.hypernet.phi(theta["features"], levels)
        return apply_bank(self.network, theta["generated"], theta["shared"], phi, images)

    def restore_pixels(
        self,
        theta: Theta,
        levels: Real[Array, "n h w a"],
        images: Float[Array, "n h w c"],
        *,
        valid: Int[Array, "n 2"] | None = None,
    ) -> Float[Array, "n h w c"]:
        """Restores images with a level for each pixel.

        Args:
          theta: the hypernetwork's parameters.
          levels: (N, H, W, A) in native units.
          images: (N, H, W, C) in [0, 1].
          valid: (N, 2), the numbers of valid rows and columns of each image; None: all.

        Returns:
          (N, H, W, C). An image with a single level comes out as `apply` would restore it.

        Raises:
          UserError: if the levels are not those of the images' pixels.
        """
        _check_floats(images)
        if levels.shape[:3] != images.shape[:3]:
            raise UserError(
                f"Levels of shape {levels.shape} are not those of the pixels of images of shape "
                f"{images.shape}; give one vector of parts for each pixel."
            )
        phi = self.hypernet.phi(theta["features"], levels)
        return apply_bank(
            self.network, theta["generated"], theta["shared"], phi, images, valid=valid
        )

    @property
    def colours(self) -> int:
        """Channels of the images that the network restores."""
        return spec_of(self.network).in_channels

    def _shapes(self) -> tuple[Any, Any]:
        """Shapes of theta and of the parameters for one level."""
        theta = jax.eval_shape(self.init, jax.random.key(0))
        return theta, jax.eval_shape(lambda t: self.generate(t, self.task.space.high.array), theta)

    def flops_per_pixel(self) -> float:
        """Arithmetic of the network for one level, per pixel of the image, as XLA counts it.

        A multiplication and an addition count as two.
        """
        side = 16 * spec_of(self.network).multiple_of
        image = jax.ShapeDtypeStruct((1, side, side, self.colours), jnp.float32)
        _, params = self._shapes()
        cost = jax.jit(self.apply).lower(params, image).cost_analysis() or {}
        return cost.get("flops", 0.0) / side**2

    def parameter_counts(self) -> dict[str, int]:
        """Sizes of the network generated for one level and of theta."""
        theta, params = self._shapes()
        dependent = count_parameters(params) - count_parameters(theta["shared"])
        if isinstance(self.hypernet.features, Constant):
            dependent = 0
        return {
            "generated_parameters": count_parameters(params),
            "level_dependent_parameters": dependent,
            "trainable_parameters": count_parameters(theta),
        }


def _initial(network: nn.Module, hypernet: HyperNetwork, key: jax.Array) -> Theta:
    template_key, hypernet_key = jax.random.split(key)
    return hypernet.init(hypernet_key, init_network(template_key, network))


def model_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a training config that defines the model, as JSON-compatible values.

    A network that does not depend on the level and is trained at a single level
    is a plain network: its entry "level" is the level that it serves.

    Raises:
      UserError: for an unknown task, or levels that are none of its own.
    """
    levels = config["levels"]
    task = get_task(config["task"])
    fixed = {task.space.parse(level) for level in levels["fixed"]}
    records = config.get("trained_levels")  # of a checkpoint
    if records is None:
        ends = [level.values for level in fixed]
        low, high = (
            fold(ends, axis=0) if ends else _of_each_axis(levels[name], len(task.space))
            for name, fold in (("low", np.min), ("high", np.max))
        )
        records = trained_levels(_counted_space(task, levels), low, high)
    plain = config["features"]["name"] == "constant" and len(fixed) == 1
    return {
        "task": config["task"],
        "normalisation": _jsonable(levels["normalisation"]),
        "network": dict(config["network"]),
        "features": dict(config["features"]),
        "generated": config["generated"],
        "trained_levels": records,
        **({"level": fixed.pop().plain()} if plain else {}),
        **{
            name: _jsonable(levels[name])
            for name in ("origin", "far")
            if levels.get(name) is not None
        },
    }


def _jsonable(value: Any) -> Any:
    """A number or string, or a list of them if levels have several parts."""
    if isinstance(value, (tuple, list)):
        return [_jsonable(part) for part in value]
    return value if isinstance(value, str) or value is None else float(value)


def _of_each_axis(value: Any, axes: int) -> tuple:
    """An option's value for each axis, from one per axis or one for all."""
    if isinstance(value, (tuple, list)):
        if len(value) != axes:
            raise UserError(
                f"Give one value for each of the {axes} parts of the level, not {len(value)}: "
                f"{tuple(value)}."
            )
        return tuple(value)
    return (value,) * axes


def _counted_space(task: Task, config: Mapping[str, Any]) -> LevelSpace:
    """The levels of a task with the normalisation of a config."""
    normalisations, origins, fars = (
        _of_each_axis(config.get(name), len(task.space))
        for name in ("normalisation", "origin", "far")
    )
    return task.space.counted(normalisations, origins=origins, fars=fars)


def missing_fields(config: Any) -> list[str]:
    """Names of what a config needs for `make_model` and does not have."""
    wanted = {"task", "normalisation", "network", "features", "generated"}
    return sorted(wanted - config.keys() if isinstance(config, Mapping) else wanted)


def make_model(
    config: Mapping[str, Any],
    *,
    compute_dtype: str = "float32",
    level_form: str = "unrolled",
    remat: bool = False,
) -> Model:
    """Builds a model.

    Args:
      config: what `model_config` returns.
      compute_dtype: dtype of the network's computation; its parameters stay float32.
      level_form, remat: how several levels are computed at once, see `Model`.

    Raises:
      UserError: if the config is not complete, or a value is not valid.
    """
    start_jax()
    missing = missing_fields(config)
    if missing:
        raise UserError(
            f"The model's config has no {', '.join(missing)}; give what model_config makes "
            "of a training config."
        )
    task = get_task(config["task"])
    space = _counted_space(task, config)
    if "trained_levels" in config:
        check_trained_levels(config["trained_levels"], space)
    if "level" in config:
        space = space.at(config["level"])
    task = dataclasses.replace(task, space=space)
    features = dict(config["features"])
    centres = tuple(
        tuple(np.asarray(space.normalise(space.parse(level).array), float).tolist())
        for level in features.pop("levels", ())
    )
    hypernet = HyperNetwork(
        space=space,
        features=make_features(**features, centres=centres, axes=len(space)),
        generated=path_matches(config["generated"]),
    )
    network = make_network(**config["network"], dtype=compute_dtype)
    return Model(task=task, network=network, hypernet=hypernet, level_form=level_form, remat=remat)
