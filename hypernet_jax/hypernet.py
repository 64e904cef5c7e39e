"""The hypernetwork: maps a level to a parameter pytree.

    level --LevelSpace--> z --features--> phi --kernel bank--> params

A *generated* leaf of the restoration network is a bank of coefficients with one
leading axis, the features: leaf(level) = sum_d phi_d(level) * bank[d]. A
*shared* leaf does not depend on the level. With affine features this is
HyperRes (Aharon and Ben-Artzi, ICASSP 2023): each kernel is A*z + B.
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Real

from hypernet_jax.errors import UserError
from hypernet_jax.features import Affine, FeatureMap, Independent, Mlp
from hypernet_jax.levels import LevelSpace

__all__ = ["HyperNetwork", "count_parameters", "mixed", "path_matches"]

Params = Any
Theta = dict[str, Any]

# Sample points per axis in the fit of the bank, by the number of axes.
_FIT_POINTS = {1: 33, 2: 9, 3: 5}
_FEWEST_FIT_POINTS = 3


def path_matches(pattern: str) -> Callable[[str], bool]:
    """A predicate on parameter paths ("block_3/conv_1/kernel"): `re.search` of `pattern`."""
    try:
        return re.compile(pattern).search  # type: ignore[return-value]
    except re.error as error:
        raise UserError(f"{pattern!r} is not a regular expression ({error}).") from None


def _everything(path: str) -> bool:
    del path
    return True


def count_parameters(tree: Params) -> int:
    """Number of scalars in all leaves of a pytree of arrays (or of shapes)."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


@functools.partial(jax.jit, inline=True)
def mixed(weights: Float[Array, "*d"], banks: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Each bank's leaves, along its first axis, mixed by weights (D,) or (M, D).

    In full precision, also on accelerators that round what they multiply: rounded weights would
    be those of another level.
    """
    exact = jax.lax.Precision.HIGHEST
    return {
        path: jnp.tensordot(weights.astype(bank.dtype), bank, axes=1, precision=exact)
        for path, bank in banks.items()
    }


@functools.partial(jax.jit, inline=True)
def _spread(weights: Float[Array, "d 1"], leaves: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """For each leaf a bank: the leaf times each of the weights (D, 1)."""
    return {
        path: weights.reshape((-1,) + (1,) * leaf.ndim).astype(leaf.dtype) * leaf[None]
        for path, leaf in leaves.items()
    }


@dataclasses.dataclass(frozen=True)
class HyperNetwork:
    """A pure map from a level to the parameters of any restoration network.

    Attributes:
      space: defines and normalises the level.
      features: z -> phi, see `hypernet_jax.features`.
      generated: predicate on the "/"-joined path of a parameter: whether it
        depends on the level. The network itself is unaware of this.

    Theta, the trainable pytree, is a dict of three trees: "generated" (banks,
    leading axis = features), "shared" (plain leaves), "features" (the feature
    map's own parameters, empty for the fixed maps).
    """

    space: LevelSpace
    features: FeatureMap = dataclasses.field(default_factory=Affine)
    generated: Callable[[str], Any] = _everything

    def __post_init__(self):
        if not isinstance(self.space, LevelSpace):
            raise UserError(
                f"The space of a hypernetwork is a {type(self.space).__name__}; give a LevelSpace, "
                "such as LevelSpace.of(NOISE_SIGMA)."
            )
        if not callable(self.generated):
            raise UserError(
                f"What is generated is {self.generated!r}; give a function of the path, such as "
                "path_matches('kernel$')."
            )
        if isinstance(self.features, Mlp) and self.features.axes != len(self.space):
            raise UserError(
                f"The features are for levels of {self.features.axes} parts, and these have "
                f"{len(self.space)}; give Mlp(axes={len(self.space)})."
            )

    def init(self, key: jax.Array, template: Params) -> Theta:
        """Initialises theta so that the network at every level is scaled like `template`.

        Args:
          key: PRNG key, for the feature map's own parameters.
          template: parameters of a plain, well-initialised network.

        The bank is the template times weights w, the least-squares fit of
        sum_d phi_d w_d = 1 over the level range. With a constant feature w is
        (1, 0, ..., 0), so that the slopes start at zero.
        """
        feature_params = self.features.init(key)
        if isinstance(self.features, Independent):
            # These features sum to 1 at every level. One that is zero at all levels of a fit
            # would leave its network at zero.
            weights = jnp.ones((len(self.features.centres), 1))
        else:
            levels = self.levels_of_fit()
            weights = self.fit(feature_params, levels, lambda _: jnp.ones(1))
            # Exactly so with a constant feature, of whatever precision the fit is.
            constant = jnp.all(self.phi(feature_params, levels)[:, 0] == 1)
            weights = jnp.where(constant, jnp.zeros_like(weights).at[0].set(1.0), weights)

        flat = traverse_util.flatten_dict(template, sep="/")
        generated = {path: leaf for path, leaf in flat.items() if self.generated(path)}
        if not generated:
            raise UserError(
                "No parameter of the network is generated from the level; "
                f"change the pattern so that it matches one of: {', '.join(flat)}."
            )
        shared = {path: leaf for path, leaf in flat.items() if path not in generated}
        banks = _spread(weights, generated)
        return {"generated": banks, "shared": shared, "features": feature_params}

    def levels_of_fit(self) -> Float[Array, "n a"]:
        """Levels over the whole range, on a grid if there are several axes; (n, A)."""
        count = _FIT_POINTS.get(len(self.space), _FEWEST_FIT_POINTS)
        lines = [jnp.linspace(axis.low, axis.high, count) for axis in self.space.axes]
        grid = jnp.meshgrid(*lines, indexing="ij")
        return jnp.stack([jnp.ravel(part) for part in grid], axis=-1)

    def fit(
        self,
        feature_params: dict,
        levels: Real[ArrayLike, "n a"],
        wanted: Callable[[jax.Array], jax.Array],
    ) -> Float[Array, "d m"]:
        """The least-squares solution w of phi(level) @ w = wanted(level).

        Args:
          feature_params: the feature map's parameters.
          levels: sample points in native units, (n, A).
          wanted: level -> (m,).

        Returns:
          (number of features, m).
        """
        levels = jnp.asarray(levels)
        phis = self.phi(feature_params, levels)
        weights, *_ = jnp.linalg.lstsq(phis, jax.vmap(wanted)(levels))
        # Removes the rounding error of least squares around integers: a warm start must be exact.
        whole = jnp.round(weights)
        return jnp.where(jnp.abs(weights - whole) < 1e-5, whole, weights)

    def phi(self, feature_params: dict, level: Real[ArrayLike, "*n"]) -> Float[Array, "*m d"]:
        """Features (..., D) of levels (..., A) in native units; or of a scalar for one axis."""
        parts = jnp.asarray(level, jnp.float32)
        if parts.ndim == 0:
            parts = parts[None]
        return self.features(feature_params, self.space.normalise(parts))

    def generate(self, theta: Theta, level: ArrayLike) -> Params:
        """Returns the parameters of the restoration network for one level.

        Args:
          theta: as returned by `init`, trained or not.
          level: (A,) in native units, or a scalar for a space of one axis. It may be traced, so
            it is not checked here: `LevelSpace.parse` does that at the public boundary.

        Pure and differentiable; the result has exactly the template's tree
        structure. `jax.vmap` over `level` gives the parameters of many networks.
        """
        phi = self.phi(theta["features"], level)
        generated = mixed(phi, theta["generated"])
        return traverse_util.unflatten_dict({**theta["shared"], **generated}, sep="/")
