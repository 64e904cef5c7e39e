"""Features of the normalised level: z -> phi(z), the coordinates of a kernel bank.

A feature map is a frozen (hashable) object with two pure methods:
`init(key)` makes its own trainable parameters (an empty dict for the fixed
maps) and `__call__(params, z)` returns phi, one-dimensional. `z` is a scalar
or, for a task with several levels, a vector.
"""

import dataclasses
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from hypernet_jax.errors import UserError

__all__ = [
    "Affine",
    "Constant",
    "FeatureMap",
    "Independent",
    "Interpolated",
    "Mlp",
    "Polynomial",
    "Proportional",
    "make_features",
]


class FeatureMap(Protocol):
    def init(self, key: jax.Array) -> dict: ...

    def __call__(self, params: dict, z: jax.Array) -> jax.Array: ...


class _Fixed:
    """A map with no parameters of its own."""

    def init(self, key: jax.Array) -> dict:
        del key
        return {}


@dataclasses.dataclass(frozen=True)
class Constant(_Fixed):
    """phi = (1): a plain network, the same at every level."""

    def __call__(self, params: dict, z: jax.Array) -> jax.Array:
        del params
        return jnp.ones(1, jnp.asarray(z).dtype)


@dataclasses.dataclass(frozen=True)
class Polynomial(_Fixed):
    """phi = (1, z, z^2, ..., z^degree)."""

    degree: int = 2

    def __post_init__(self):
        if self.degree < 1:
            raise UserError(f"The degree of polynomial features is {self.degree}; give 1 or more.")

    def __call__(self, params: dict, z: jax.Array) -> jax.Array:
        del params
        z = jnp.atleast_1d(z)
        powers = [z**d for d in range(1, self.degree + 1)]
        return jnp.concatenate([jnp.ones(1, z.dtype), *powers])


@dataclasses.dataclass(frozen=True)
class Affine(Polynomial):
    """phi = (1, z): each parameter is A*z + B, the published method."""

    degree: int = dataclasses.field(default=1, init=False)


@dataclasses.dataclass(frozen=True)
class Proportional(_Fixed):
    """phi = (z): the theory taken at its word, theta_i / theta_j = i / j."""

    def __call__(self, params: dict, z: jax.Array) -> jax.Array:
        del params
        return jnp.atleast_1d(z)


@dataclasses.dataclass(frozen=True)
class Mlp:
    """phi = (1, tanh MLP of z): a learned curve through parameter space.

    The constant feature stays, so that the network can start well scaled.
    """

    hidden: int = 16
    outputs: int = 3

    def __post_init__(self):
        if self.hidden < 1 or self.outputs < 1:
            raise UserError("The features of an MLP need at least one hidden unit and one output.")

    def init(self, key: jax.Array) -> dict:
        hidden_key, output_key = jax.random.split(key)
        return {
            # Biases spread the tanh knees over the normalised range instead of all at z = 0.
            "hidden": {
                "kernel": 3.0 * jax.random.normal(hidden_key, (1, self.hidden)),
                "bias": jnp.linspace(-2.0, 2.0, self.hidden),
            },
            "output": {
                "kernel": jax.random.normal(output_key, (self.hidden, self.outputs))
                / jnp.sqrt(self.hidden),
                "bias": jnp.zeros(self.outputs),
            },
        }

    def __call__(self, params: dict, z: jax.Array) -> jax.Array:
        z = jnp.atleast_1d(z)
        hidden = jnp.tanh(z @ params["hidden"]["kernel"] + params["hidden"]["bias"])
        learned = hidden @ params["output"]["kernel"] + params["output"]["bias"]
        return jnp.concatenate([jnp.ones(1, learned.dtype), learned])


@dataclasses.dataclass(frozen=True)
class Independent(_Fixed):
    """phi = one-hot of the nearest centre: a dedicated network per level, none shared.

    With every parameter generated, the bank is a stack of plain networks that are trained
    side by side: what one network for all levels is measured against.
    """

    centres: tuple[float, ...] = ()

    def __post_init__(self):
        if len(set(self.centres)) != len(self.centres) or not self.centres:
            raise UserError(
                "Independent or interpolated networks need config.features.levels, "
                "one different level for each."
            )

    def __call__(self, params: dict, z: jax.Array) -> jax.Array:
        del params
        below, above = self._neighbours()
        centres = np.asarray(self.centres)
        low, high = ((centres + other).astype(z.dtype) / 2 for other in (below, above))
        one, zero = jnp.ones_like(low), jnp.zeros_like(low)
        return jnp.where(z > low, jnp.where(z > high, zero, one), zero)

    def _neighbours(self) -> tuple[np.ndarray, np.ndarray]:
        """The next lower and the next higher centre of each; infinite beyond the ends."""
        knots = [-np.inf, *sorted(self.centres), np.inf]
        places = [knots.index(centre) for centre in self.centres]
        return (
            np.asarray([knots[place - 1] for place in places]),
            np.asarray([knots[place + 1] for place in places]),
        )


@dataclasses.dataclass(frozen=True)
class Interpolated(Independent):
    """phi = linear interpolation between the two nearest centres, held beyond the ends.

    Applied to networks that were trained as `Independent` this is deep network
    interpolation (DNI; Wang et al., CVPR 2019).
    """

    def __call__(self, params: dict, z: jax.Array) -> jax.Array:
        del params
        centres, (below, above) = np.asarray(self.centres), self._neighbours()
        # How far z has come from the centre below to this one, and from this one to the next.
        # Nothing is below the first: it is reached from the start. Nothing is above the last.
        first, last = np.isinf(below), np.isinf(above)
        start, end = (
            ends.astype(z.dtype)
            for ends in (np.where(first, 0.0, below), np.where(last, 0.0, centres))
        )
        rise = (z - start) / (centres - below).astype(z.dtype) + first.astype(z.dtype)
        fall = (z - end) / (above - centres).astype(z.dtype)
        return jnp.clip(rise, 0.0, 1.0) - jnp.clip(fall, 0.0, 1.0)


def make_features(name: str, **options) -> FeatureMap:
    """Returns the feature map called `name`.

    Args:
      name: affine, proportional, polynomial, mlp, constant, independent or interpolated.
      **options: `degree` (polynomial), `hidden` and `outputs` (mlp), `centres` (independent,
        interpolated; values of z); those of the other kinds are passed over, so that a
        config can hold them all.
    """
    kinds: dict[str, type] = {
        "affine": Affine,
        "proportional": Proportional,
        "polynomial": Polynomial,
        "mlp": Mlp,
        "independent": Independent,
        "interpolated": Interpolated,
        "constant": Constant,
    }
    if name not in kinds:
        raise UserError(f"Unknown features {name!r}; choose one of {', '.join(kinds)}.")
    known = {kind: [f.name for f in dataclasses.fields(kind) if f.init] for kind in kinds.values()}
    for option in options:
        if not any(option in names for names in known.values()):
            raise UserError(f"No features take an option {option!r}.")
    kind = kinds[name]
    return kind(**{key: value for key, value in options.items() if key in known[kind]})
