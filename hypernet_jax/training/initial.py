"""Initial parameters for training: fresh ones, or existing weights.

A smaller network's weights grow into a larger network that initially computes the same
function, so a small network's cheap training is not repeated (net morphism; Chen et al.,
Net2Net, ICLR 2016). Weights with other features of the level are converted to the new features.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from hypernet_jax.errors import UserError
from hypernet_jax.features import Affine, Constant, Independent
from hypernet_jax.hypernet import Theta, mixed, path_matches
from hypernet_jax.levels import LevelSpace
from hypernet_jax.model import Model
from hypernet_jax.networks import network_options, spec_of
from hypernet_jax.weights import load_weights

__all__ = ["grow", "initial_theta", "with_features_of"]

# Attributes of a network that do not change the meaning of its parameters.
_FREE_ATTRIBUTES = ("dtype", "init_gain", "name", "parent")

# Largest error of features expressed in others; features are of order 1.
_LARGEST_MISFIT = 1e-4


def _network_fits(source: Model, model: Model) -> bool:
    """Whether the source's network can be embedded in the model's as the same function."""
    if type(source.network) is not type(model.network):
        return False
    sizes = spec_of(model.network).growable
    for name, value in vars(source.network).items():
        if name.startswith("_") or name in _FREE_ATTRIBUTES:
            continue
        own = getattr(model.network, name)
        if not (_within(value, own) if name in sizes else value == own):
            return False
    return True


def _within(size: int | tuple[int, ...], larger: int | tuple[int, ...]) -> bool:
    """Whether a size, or each of several, is at most as large as the other."""
    sizes, bounds = np.atleast_1d(size), np.atleast_1d(larger)
    return sizes.shape == bounds.shape and bool(np.all(sizes <= bounds))


def _same_features(source: Model, model: Model) -> bool:
    """Whether a bank means the same in both models; z may differ between tasks."""
    one, other = source.hypernet, model.hypernet

    return one.features == other.features and (
        source.task.name != model.task.name or _ways(one.space) == _ways(other.space)
    )


def _ways(space: LevelSpace) -> dict[str, tuple]:
    """How each axis, by name, is normalised to z."""
    return {axis.name: (axis.normalisation, axis.origin, axis.far) for axis in space.axes}


def _has_other_parts(source: Model, model: Model) -> bool:
    """Whether both have affine features, but levels of other parts, at least one with several."""
    affine = source.hypernet.features == model.hypernet.features == Affine()
    spaces = source.task.space, model.task.space
    return affine and spaces[0].names != spaces[1].names and max(map(len, spaces)) > 1


def _onto_parts(source: Model, theta: Theta, model: Model) -> Theta:
    """Moves the slopes of affine theta to the parts of the same names in the model's level.

    Parts that only the model has get zero slopes; of those that only the source has, the neutral
    value remains.

    Raises:
      UserError: if they have no part in common, or one is normalised differently.
    """
    own, parts = _ways(source.task.space), _ways(model.task.space)
    common = own.keys() & parts.keys()
    if not common or any(own[name] != parts[name] for name in common):
        raise UserError(
            f"The levels of the initial weights, {source.task.space.describe()}, have no part in "
            f"common with those of the task {model.task.name}, or are normalised differently; "
            "choose other weights, or use their normalisation, origin and far."
        )
    # From the features of the source, the constant and z of each part, to those of the model.
    kept = np.zeros((1 + len(parts), 1 + len(own)), np.float32)
    kept[0, 0] = 1.0
    neutral = np.asarray(source.task.space.normalise(source.task.space.neutral.array))
    for column, name in enumerate(own):
        if name in common:
            kept[1 + list(parts).index(name), 1 + column] = 1.0
        else:
            kept[0, 1 + column] = neutral[column]

    return {**theta, "generated": mixed(jnp.asarray(kept), theta["generated"])}


def with_features_of(
    model: Model, key: jax.Array, source: Model, theta: Theta, levels: ArrayLike
) -> Theta:
    """Converts theta to another feature map of the same task.

    Args:
      model: has the new features.
      key: PRNG key for features with parameters of their own.
      source: the model that theta belongs to.
      theta: of the source.
      levels: levels at which both must generate the same networks, (n, A) in native units.

    Returns:
      A theta for the model's features that generates the same networks.

    Raises:
      UserError: if the model's features do not span the source's. Polynomials of a higher degree
        or from another origin do, and so do independent networks at `levels`.
    """
    features = model.hypernet.features.init(key)
    at = jnp.asarray(levels, jnp.float32)

    def wanted(level):
        return source.hypernet.phi(theta["features"], level)

    weights = model.hypernet.fit(features, at, wanted)
    found = jax.vmap(lambda level: model.hypernet.phi(features, level) @ weights)(at)
    # Written so that it is also true for NaN.
    if not jnp.max(jnp.abs(found - jax.vmap(wanted)(at))) < _LARGEST_MISFIT:
        raise UserError(
            "The features of the level in the config cannot express those of its initial weights; "
            "choose the same features and normalisation, or polynomials of a higher degree."
        )
    banks = mixed(weights, theta["generated"])
    return {"generated": banks, "shared": theta["shared"], "features": features}


def _check_plain_start(model: Model, theta: Theta, plain: Any) -> None:
    """Raises `UserError` unless theta generates the plain network at both ends of the range."""
    for level in (model.task.space.low.array, model.task.space.high.array):
        misfits = jax.tree.map(
            lambda made, wanted: jnp.max(jnp.abs(made - wanted)),
            model.generate(theta, level),
            plain,
        )
        if not max(jax.tree.leaves(misfits)) < _LARGEST_MISFIT:
            raise UserError(
                "The features of the level in the config have no constant, so training cannot "
                "start from the plain network in its initial weights; choose others, such as "
                "affine."
            )


def _grown(old: jax.Array, fresh: jax.Array) -> jax.Array:
    """Embeds an old parameter in the corner of a larger, fresh one.

    The last axis is that of outputs. Old outputs depend only on old inputs, so they are
    unchanged; new outputs keep their fresh kernels for all inputs.
    """
    if not old.ndim:
        return old
    grown = np.array(fresh)
    grown[..., : old.shape[-1]] = 0
    grown[tuple(slice(size) for size in old.shape)] = old
    return jnp.asarray(grown)


def grow(theta: Theta, fresh: Theta, *, exits: str) -> Theta:
    """Embeds theta of a smaller network in that of a larger one, preserving its function.

    Args:
      theta: of the smaller network.
      fresh: newly initialised theta of the larger one, with more channels or blocks. Each array
        must be at least as large as theta's.
      exits: regular expression on the paths of the last layers of residual branches. In new
        blocks they become zero, so that these blocks start as the identity.

    Returns:
      A tree like fresh. New channels reach the output only through zeros, but the gradients
      there are not zero, so they are learned normally.
    """
    ends_branch = path_matches(exits)

    def of_group(group: str) -> dict[str, Any]:
        grown = {}
        for path, leaf in fresh[group].items():
            if path in theta[group]:
                grown[path] = _grown(theta[group][path], leaf)
            else:
                grown[path] = jnp.zeros_like(leaf) if ends_branch(path) else leaf
        return grown

    return {
        "generated": of_group("generated"),
        "shared": of_group("shared"),
        "features": theta["features"],
    }


def initial_theta(config, model: Model) -> Theta:
    """The initial theta of a training run.

    Fresh parameters, or those of `config.initial_weights`, converted to the config's features of
    the level and grown to its network.

    Raises:
      UserError: if the weights belong to another or a larger network.
    """
    key = jax.random.key(config.seed)
    fresh = model.init(key)
    if not config.initial_weights:
        return fresh
    source, theta = load_weights(config.initial_weights)
    if isinstance(source.hypernet.features, Constant):
        # The config determines which parameters of a plain network depend on the level.
        plain = source.generate(theta, source.task.space.low.array)
        theta = model.hypernet.init(key, plain)
        _check_plain_start(model, theta, plain)
    elif _has_other_parts(source, model):
        theta = _onto_parts(source, theta, model)
    elif not _same_features(source, model):
        if source.task.name != model.task.name:
            raise UserError(
                f"The weights {config.initial_weights} are for the task {source.task.name}, whose "
                "levels mean something else; use the same config.features as they do."
            )
        # Independent and interpolated networks can be matched only at their own levels.
        levels: ArrayLike = model.task.space.array(config.levels.fixed or config.features.levels)
        if not isinstance(model.hypernet.features, Independent):
            levels = model.hypernet.levels_of_fit()
        theta = with_features_of(model, key, source, theta, levels)
    if not _network_fits(source, model) or any(
        not theta[group].keys() <= fresh[group].keys() for group in ("generated", "shared")
    ):
        raise UserError(
            f"The weights {config.initial_weights} do not fit the network of the config "
            f"({_misfit(source, model)}); choose others, or the network and generated parameters "
            "that they were trained with, or a larger network of that kind (more channels or "
            "blocks)."
        )
    return grow(theta, fresh, exits=spec_of(model.network).branch_exits)


def _misfit(source: Model, model: Model) -> str:
    """The fields in which two networks differ, with both values."""
    theirs, ours = (network_options(each.network) for each in (source, model))
    different = [
        f"network.{name}: theirs {theirs.get(name)!r}, here {ours.get(name)!r}"
        for name in {**theirs, **ours}
        if theirs.get(name) != ours.get(name)
    ]
    return "; ".join(different) or "other parameters are generated"
