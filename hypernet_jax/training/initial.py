"""What training starts from: fresh parameters, or weights that came before.

Weights of a smaller network grow into a larger one that at first restores exactly as they
do, so that what a small network learnt cheaply is not learnt again (net morphism; Chen et al.,
Net2Net, ICLR 2016). Those of other features of the level are expressed in the new ones.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from hypernet_jax.errors import UserError
from hypernet_jax.features import Affine, Constant, Independent
from hypernet_jax.hypernet import Theta, path_matches
from hypernet_jax.levels import LevelSpace
from hypernet_jax.model import Model
from hypernet_jax.networks import spec_of
from hypernet_jax.weights import load_weights

__all__ = ["grow", "initial_theta", "with_features_of"]

# What an attribute of a network may differ in without changing what its parameters mean.
_FREE_ATTRIBUTES = ("dtype", "init_gain", "name", "parent")

# Of features expressed in others, which are of the size of 1.
_LARGEST_MISFIT = 1e-4


def _network_fits(source: Model, model: Model) -> bool:
    """Whether the source's network, within the model's, makes the same function."""
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
    """Whether a size, or each of several, is at most the other."""
    sizes, bounds = np.atleast_1d(size), np.atleast_1d(larger)
    return sizes.shape == bounds.shape and bool(np.all(sizes <= bounds))


def _same_features(source: Model, model: Model) -> bool:
    """Whether the same bank means the same; of another task, which counts otherwise, too."""
    one, other = source.hypernet, model.hypernet

    return one.features == other.features and (
        source.task.name != model.task.name or _ways(one.space) == _ways(other.space)
    )


def _ways(space: LevelSpace) -> dict[str, tuple]:
    """How each axis, by its name, is turned into z."""
    return {axis.name: (axis.normalisation, axis.origin, axis.far) for axis in space.axes}


def _adds_axes(source: Model, model: Model) -> bool:
    """Whether both are affine in their levels and the model's level has more parts."""
    affine = source.hypernet.features == model.hypernet.features == Affine()
    return affine and len(source.task.space) < len(model.task.space)


def _onto_axes(source: Model, theta: Theta, model: Model) -> Theta:
    """Affine theta of a level with some of the model's axes: the slopes of the others are zero.

    Raises:
      UserError: where an axis is not among the model's, or means something else there.
    """
    own, axes = _ways(source.task.space), _ways(model.task.space)
    places = {name: index for index, name in enumerate(axes)}
    if any(axes.get(name) != way for name, way in own.items()):
        raise UserError(
            f"The levels of the initial weights, {source.task.space.describe()}, are not among "
            f"those of the task {model.task.name}, or are normalised in another way; choose other "
            "weights, or their normalisation, origin and far."
        )

    def wider(bank: jax.Array) -> jax.Array:
        # The first feature is the constant.
        slopes = jnp.zeros((len(axes), *bank.shape[1:]), bank.dtype)
        at = jnp.asarray([places[name] for name in own])
        return jnp.concatenate([bank[:1], slopes.at[at].set(bank[1:])])

    return {**theta, "generated": {path: wider(b) for path, b in theta["generated"].items()}}


def with_features_of(
    model: Model, key: jax.Array, source: Model, theta: Theta, levels: ArrayLike
) -> Theta:
    """Expresses theta of one feature map, of the same task, in that of another.

    Args:
      model: its features are wanted.
      key: PRNG key of features that have parameters of their own.
      source: what theta belongs to.
      theta: of the source.
      levels: where both shall generate the same networks, (n, A) in native units.

    Returns:
      A theta for the model's features, of the same networks.

    Raises:
      UserError: where the model's features do not span the source's, as polynomials of a higher
        degree or from another origin do, and independent networks at `levels`.
    """
    features = model.hypernet.features.init(key)
    at = jnp.asarray(levels, jnp.float32)

    def wanted(level):
        return source.hypernet.phi(theta["features"], level)

    weights = model.hypernet.fit(features, at, wanted)
    found = jax.vmap(lambda level: model.hypernet.phi(features, level) @ weights)(at)
    # Written so that it is true for what is not a number.
    if not jnp.max(jnp.abs(found - jax.vmap(wanted)(at))) < _LARGEST_MISFIT:
        raise UserError(
            "The features of the level in the config cannot express those of its initial weights; "
            "choose the same features and normalisation, or polynomials of a higher degree."
        )
    banks = {
        path: jnp.tensordot(weights.astype(bank.dtype), bank, axes=1)
        for path, bank in theta["generated"].items()
    }
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
                "Without a constant among the features of the level in the config, no hypernetwork "
                "begins as the plain network of its initial weights; choose others, such as affine."
            )


def _grown(old: jax.Array, fresh: jax.Array) -> jax.Array:
    """A parameter in whose corner an older one stands.

    The last axis is of outputs. Old outputs see old inputs alone, so they stay what they were;
    new ones keep their fresh kernels, from whatever they see.
    """
    if not old.ndim:
        return old
    corner = tuple(slice(size) for size in old.shape)
    return fresh.at[..., : old.shape[-1]].set(0).at[corner].set(old)


def grow(theta: Theta, fresh: Theta, *, exits: str) -> Theta:
    """Puts theta of a smaller network into that of a larger one, of the same function.

    Args:
      theta: of the smaller network.
      fresh: of the larger one, newly initialised: more channels or more blocks. Each array must
        be at least as large as theta's.
      exits: regular expression on the paths of the last layers of residual branches. Those of
        blocks that theta lacks become zero, so that the new blocks begin as the identity.

    Returns:
      A tree like fresh. With theta inside, the new channels reach the output through zeros only;
      gradients are not zero there, and they are learnt like any other.
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
    """What a training config's run begins with.

    Fresh parameters; or those of `config.initial_weights`, with the features of the level that the
    config has, and grown to its network.

    Raises:
      UserError: if the weights are of another network, or of a larger one.
    """
    key = jax.random.key(config.seed)
    fresh = model.init(key)
    if not config.initial_weights:
        return fresh
    source, theta = load_weights(config.initial_weights)
    if isinstance(source.hypernet.features, Constant):
        # A plain network does not tell which of its parameters shall depend on the level.
        plain = source.generate(theta, source.task.space.low.array)
        theta = model.hypernet.init(key, plain)
        _check_plain_start(model, theta, plain)
    elif _adds_axes(source, model):
        theta = _onto_axes(source, theta, model)
    elif not _same_features(source, model):
        if source.task.name != model.task.name:
            raise UserError(
                f"The weights {config.initial_weights} are of the task {source.task.name}, whose "
                "levels mean something else; begin with the same config.features."
            )
        # Independent networks, and those interpolated, are nothing between their levels.
        levels: ArrayLike = model.task.space.array(config.levels.fixed or config.features.levels)
        if not isinstance(model.hypernet.features, Independent):
            levels = model.hypernet.levels_of_fit()
        theta = with_features_of(model, key, source, theta, levels)
    if not _network_fits(source, model) or any(
        not theta[group].keys() <= fresh[group].keys() for group in ("generated", "shared")
    ):
        raise UserError(
            f"The weights {config.initial_weights} have another shape or network than the model of "
            "the config; choose others, or the network and generated parameters that they were "
            "trained with, or a larger network of that kind (more channels or blocks)."
        )
    return grow(theta, fresh, exits=spec_of(model.network).branch_exits)
