"""Features of the normalised level: z -> phi(z), the weights of a kernel bank.

A feature map is a frozen (hashable) object with two pure methods: `init(key)` returns its
trainable parameters (an empty dict for fixed maps) and `__call__(params, z)` maps z (..., A),
with one number for each axis of the level, to phi (..., D).
"""

import collections
import dataclasses
import functools
import itertools
import operator
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

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

    def __call__(self, params: dict, z: Float[Array, "*n a"]) -> Float[Array, "*n d"]: ...


def _ones(z: Float[Array, "*n a"]) -> Float[Array, "*n 1"]:
    """The constant feature, (..., 1)."""
    return jnp.ones((*z.shape[:-1], 1), z.dtype)


def _part(z: Float[Array, "*n a"], axis: int) -> Float[Array, "*n 1"]:
    """One axis of z, (..., 1)."""
    return z[..., axis : axis + 1]


class _Fixed:
    """A map without trainable parameters."""

    def init(self, key: jax.Array) -> dict:
        del key
        return {}


@dataclasses.dataclass(frozen=True)
class Constant(_Fixed):
    """phi = (1): a plain network, identical at every level."""

    def __call__(self, params: dict, z: Float[Array, "*n a"]) -> Float[Array, "*n d"]:
        del params
        return _ones(z)


# Higher powers of a z beyond 1 leave the range of float32's precision.
_HIGHEST_DEGREE = 10


@dataclasses.dataclass(frozen=True)
class Polynomial(_Fixed):
    """phi = all monomials of z up to `degree`: (1, z, z^2, ...) for one axis.

    For two axes and degree 2: (1, z_1, z_2, z_1^2, z_1 z_2, z_2^2).
    """

    degree: int = 2

    def __post_init__(self):
        if not 1 <= self.degree <= _HIGHEST_DEGREE:
            raise UserError(
                f"The degree of polynomial features is {self.degree}; give 1 to {_HIGHEST_DEGREE}."
            )

    def __call__(self, params: dict, z: Float[Array, "*n a"]) -> Float[Array, "*n d"]:
        del params
        terms = [_ones(z), z]
        for degree in range(2, self.degree + 1):
            factors = itertools.combinations_with_replacement(range(z.shape[-1]), degree)
            monomials = [collections.Counter(each).items() for each in factors]
            terms += [
                functools.reduce(operator.mul, (_part(z, axis) ** n for axis, n in each))
                for each in monomials
            ]
        return jnp.concatenate(terms, axis=-1)


@dataclasses.dataclass(frozen=True)
class Affine(Polynomial):
    """phi = (1, z_1, ..., z_A): each parameter is affine in z, the published method."""

    degree: int = dataclasses.field(default=1, init=False)


@dataclasses.dataclass(frozen=True)
class Proportional(_Fixed):
    """phi = z: the theory taken literally, theta_i / theta_j = i / j."""

    def __call__(self, params: dict, z: Float[Array, "*n a"]) -> Float[Array, "*n d"]:
        del params
        return z


@dataclasses.dataclass(frozen=True)
class Mlp:
    """phi = (1, tanh MLP of z): a learned surface in parameter space.

    The constant feature is kept, so that the network can start well scaled.

    Attributes:
      hidden: number of hidden units.
      outputs: number of features besides the constant.
      axes: dimension of z.
    """

    hidden: int = 16
    outputs: int = 3
    axes: int = 1

    def __post_init__(self):
        if min(self.hidden, self.outputs, self.axes) < 1:
            raise UserError("The features of an MLP need at least one hidden unit and one output.")

    def init(self, key: jax.Array) -> dict:
        hidden_key, output_key = jax.random.split(key)
        directions = jax.random.normal(hidden_key, (self.axes, self.hidden), jnp.float32)
        return {
            # The biases spread the tanh knees over the normalised range, not all at z = 0.
            "hidden": {
                "kernel": 3.0 * directions / jnp.sqrt(self.axes),
                "bias": jnp.linspace(-2.0, 2.0, self.hidden, dtype=jnp.float32),
            },
            "output": {
                "kernel": jax.random.normal(output_key, (self.hidden, self.outputs), jnp.float32)
                / jnp.sqrt(self.hidden),
                "bias": jnp.zeros(self.outputs, jnp.float32),
            },
        }

    def __call__(self, params: dict, z: Float[Array, "*n a"]) -> Float[Array, "*n d"]:
        dot = functools.partial(jnp.dot, precision=jax.lax.Precision.HIGHEST)
        hidden = jnp.tanh(dot(z, params["hidden"]["kernel"]) + params["hidden"]["bias"])
        learned = dot(hidden, params["output"]["kernel"]) + params["output"]["bias"]
        return jnp.concatenate([_ones(learned), learned], axis=-1)


Centre = tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Independent(_Fixed):
    """phi = one-hot of the nearest centre: an independent network per level.

    With every parameter generated, the bank is a stack of plain networks trained
    side by side: the baseline for one network for all levels.

    Attributes:
      centres: z of each network's level.
    """

    centres: tuple[Centre, ...] = ()

    def __post_init__(self):
        if len(set(self.centres)) != len(self.centres) or not self.centres:
            raise UserError(
                "Independent and interpolated networks need config.features.levels; "
                "give a different level for each network."
            )

    def __call__(self, params: dict, z: Float[Array, "*n a"]) -> Float[Array, "*n d"]:
        del params
        one = _ones(z)
        near = [self._nearest(centre, z, one) for centre in self.centres]
        return jnp.concatenate(near, axis=-1)

    def _nearest(
        self, centre: Centre, z: Float[Array, "*n a"], one: Float[Array, "*n 1"]
    ) -> Float[Array, "*n d"]:
        """1 where no other centre is nearer, (..., 1); the smaller centre wins ties."""
        found = one
        for other in self.centres:
            if other == centre:
                continue
            # Beyond the plane midway between the two, the other one is nearer.
            way = np.subtract(other, centre)
            way = way / np.linalg.norm(way)
            middle = np.add(other, centre) / 2
            shares = (_part(z, axis) * z.dtype.type(part) for axis, part in enumerate(way))
            along = functools.reduce(operator.add, shares)
            end = z.dtype.type(middle @ way)
            zero = jnp.zeros_like(one)
            if centre < other:
                found = jnp.where(along > end, zero, found)
            else:
                found = jnp.where(along < end, found, zero)
        return found


@dataclasses.dataclass(frozen=True)
class Interpolated(Independent):
    """phi = linear interpolation between neighbouring centres, constant beyond the ends.

    For several axes it is multilinear, and the centres must be all points of a grid.
    For networks trained as `Independent` this is deep network interpolation
    (DNI; Wang et al., CVPR 2019).
    """

    def __post_init__(self):
        super().__post_init__()
        knots = [set(column) for column in zip(*self.centres, strict=True)]
        if set(itertools.product(*knots)) != set(self.centres):
            raise UserError(
                "Interpolated networks need config.features.levels at all points of a grid; give "
                "each value of one part with each value of the others."
            )

    def __call__(self, params: dict, z: Float[Array, "*n a"]) -> Float[Array, "*n d"]:
        del params
        columns = zip(*self.centres, strict=True)
        shares = [_shares(column, _part(z, axis)) for axis, column in enumerate(columns)]
        return functools.reduce(operator.mul, shares)


def _shares(values: tuple[float, ...], z: Float[Array, "*n a"]) -> Float[Array, "*n d"]:
    """The linear interpolation weight of each value along one axis.

    Args:
      values: of the n centres along the axis, in any order, possibly repeated.
      z: (..., 1).

    Returns:
      (..., n); 1 at a centre's own value, falling to 0 at the neighbouring values.
    """
    knots = [-np.inf, *sorted(set(values)), np.inf]
    places = [knots.index(value) for value in values]
    below, above = (np.asarray([knots[place + step] for place in places]) for step in (-1, 1))
    centres = np.asarray(values)
    # `rise` goes from 0 to 1 between the centre below and this one, `fall` between this one and
    # the next. The first centre has none below it, so its rise is always 1; the last one's fall
    # is always 0.
    first, last = np.isinf(below), np.isinf(above)
    start, end = (
        ends.astype(z.dtype) for ends in (np.where(first, 0.0, below), np.where(last, 0.0, centres))
    )
    rise = (z - start) / (centres - below).astype(z.dtype) + first.astype(z.dtype)
    fall = (z - end) / (above - centres).astype(z.dtype)
    return jnp.clip(rise, 0.0, 1.0) - jnp.clip(fall, 0.0, 1.0)


def make_features(name: str, **options) -> FeatureMap:
    """Returns the feature map called `name`.

    Args:
      name: affine, proportional, polynomial, mlp, constant, independent or interpolated.
      **options: `degree` (polynomial), `hidden`, `outputs` and `axes` (mlp), `centres`
        (independent, interpolated; tuples of z). Options of other kinds are ignored, so that a
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
            raise UserError(f"No feature map has an option {option!r}; leave it out.")
    kind = kinds[name]
    return kind(**{key: value for key, value in options.items() if key in known[kind]})
