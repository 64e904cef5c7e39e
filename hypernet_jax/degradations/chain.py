"""Chains of degradations, applied to an image one after the other."""

import dataclasses
import functools
import itertools
import reprlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Int, Key, Real

from hypernet_jax.errors import UserError

__all__ = ["Chain", "Operator", "degrade_example", "degrade_examples", "example_key"]


@dataclasses.dataclass(frozen=True)
class Operator:
    """One degradation, float to float.

    Attributes:
      function: (key, image, value) -> image; images are (..., H, W, C) in 8-bit range, which the
        result may exceed. It does not round unless `quantises`.
      axis: name of the part of the level that it takes; None if it takes none.
      random: it draws from its key.
      traceable: JAX can trace it; otherwise it takes and returns NumPy arrays.
      quantises: its result is whole numbers from 0 to 255, as in an 8-bit file.
      absent_at: the value at which a host operator is skipped; None: it is never skipped.
    """

    function: Callable[[Any, Any, Any], Any]
    axis: str | None = None
    random: bool = False
    traceable: bool = True
    quantises: bool = False
    absent_at: float | None = None

    def __post_init__(self):
        if not callable(self.function):
            raise UserError(
                f"An operator needs a function (key, image, value), not {self.function}."
            )
        if self.traceable and not isinstance(self.function, Hashable):
            raise UserError(
                "The function of an operator that JAX traces must be hashable, and "
                f"{reprlib.repr(self.function)} is not; use a function, or a frozen dataclass."
            )
        if self.axis is not None and not isinstance(self.axis, str):
            raise UserError(f"The axis of an operator is the name of one, not {self.axis!r}.")

    def __call__(self, key: jax.Array | None, image: Any, level: Mapping[str, Any]) -> Any:
        """Returns the degraded image; `level` holds values by the names of its parts."""
        if self.axis is None:
            return self.function(key, image, None)
        value = level[self.axis]
        if self.absent_at is not None and not self.traceable and float(value) == self.absent_at:
            return image
        return self.function(key, image, value)


@dataclasses.dataclass(frozen=True, init=False)
class Chain:
    """Operators in the order in which they degrade an image.

    Consecutive traceable operators are compiled together; the others run on the host.

    Attributes:
      operators: one or more.
    """

    operators: tuple[Operator, ...]

    def __init__(self, *operators: Operator):
        """Joins operators.

        Raises:
          UserError: if there is none, or something is not an `Operator`.
        """
        if not operators:
            raise UserError("A chain needs at least one operator, such as QUANTISE.")
        for each in operators:
            if not isinstance(each, Operator):
                raise UserError(
                    f"A chain joins operators, and {reprlib.repr(each)} is none; write "
                    "Chain(Operator(function, ...), ...)."
                )
        object.__setattr__(self, "operators", operators)

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the parts of the level that it takes."""
        return tuple(each.axis for each in self.operators if each.axis is not None)

    @property
    def traceable(self) -> bool:
        """Whether JAX can trace all of it, the level included."""
        return all(each.traceable for each in self.operators)

    @property
    def random(self) -> bool:
        """Whether it draws from its key; otherwise the key may be None."""
        return any(each.random for each in self.operators)

    @property
    def quantises(self) -> bool:
        """Whether its result is whole numbers from 0 to 255."""
        return self.operators[-1].quantises

    def without(self, operator: Operator) -> "Chain":
        """The chain of the other operators."""
        return Chain(*(each for each in self.operators if each is not operator))

    def __call__(self, key: jax.Array | None, image: Any, level: Mapping[str, Any]) -> Any:
        """Degrades an image, or several at one level.

        Args:
          key: PRNG key; split among the operators that draw.
          image: (..., H, W, C), 0 to 255, of any dtype.
          level: scalars in native units, by the names of the parts.

        Returns:
          float32 of the image's shape; a NumPy array if the last operator is not traceable,
          otherwise a JAX array.

        Raises:
          UserError: if a part of the level is missing.
        """
        self._check(level)
        steps = zip(self.operators, self._keys(key), strict=True)
        for traceable, together in itertools.groupby(steps, key=lambda step: step[0].traceable):
            operators, keys = zip(*together, strict=True)
            if traceable:
                taken = {
                    each.axis: jnp.asarray(level[each.axis], jnp.float32)
                    for each in operators
                    if each.axis is not None
                }
                image = _traced(operators, keys, image, taken)
            else:
                image = _in_turn(operators, keys, np.asarray(image, np.float32), level)
        return image

    def of_each(
        self, keys: jax.Array | None, images: Any, levels: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """Degrades images, each at its own level; traceable operators run on all at once.

        Args:
          keys: (N,), one per image as for a call; None if the chain draws nothing.
          images: (N, H, W, C), 0 to 255, of any dtype.
          levels: arrays (N,) in native units, by the names of the parts.

        Returns:
          float32 of the images' shape.

        Raises:
          UserError: if a part of the levels is missing.
        """
        self._check(levels)
        own = [None] * len(self.operators) if keys is None else jax.vmap(self._keys)(keys)
        steps = zip(self.operators, own, strict=True)
        for traceable, together in itertools.groupby(steps, key=lambda step: step[0].traceable):
            operators, drawn = zip(*together, strict=True)
            axes = [each.axis for each in operators if each.axis is not None]
            taken = {axis: np.asarray(levels[axis], np.float32) for axis in axes}
            if traceable:
                images = _traced_each(operators, drawn, images, taken)
                continue
            images = np.stack(
                [
                    _in_turn(
                        operators,
                        [None if each is None else each[index] for each in drawn],
                        np.asarray(image, np.float32),
                        {axis: values[index] for axis, values in taken.items()},
                    )
                    for index, image in enumerate(np.asarray(images))
                ]
            )
        return np.asarray(images)

    def _check(self, level: Mapping[str, Any]) -> None:
        for axis in self.axes:
            try:
                level[axis]
            except KeyError:
                raise UserError(
                    f"The level has no part {axis}; give {', '.join(self.axes)}, as "
                    "LevelSpace.parse(...).named has them."
                ) from None

    def _keys(self, key: jax.Array | None) -> list[jax.Array | None]:
        """A key for each operator that draws; if only one draws, it gets the chain's key."""
        drawing = [index for index, each in enumerate(self.operators) if each.random]
        keys: list[jax.Array | None] = [None] * len(self.operators)
        if key is not None and drawing:
            own = [key] if len(drawing) == 1 else jax.random.split(key, len(drawing))
            for index, each in zip(drawing, own, strict=True):
                keys[index] = each
        return keys


def _in_turn(
    operators: Sequence[Operator], keys: Sequence[Any], image: Any, level: Mapping[str, Any]
) -> Any:
    for operator, key in zip(operators, keys, strict=True):
        image = operator(key, image, level)
    return image


@functools.partial(jax.jit, static_argnums=0)
def _traced(operators: tuple[Operator, ...], keys, image, level: Mapping[str, jax.Array]):
    return _in_turn(operators, keys, image.astype(jnp.float32), level)


@functools.partial(jax.jit, static_argnums=0)
def _traced_each(operators: tuple[Operator, ...], keys, images, levels: Mapping[str, jax.Array]):
    return jax.vmap(functools.partial(_traced, operators))(keys, images, levels)


def degrade_example(
    chain: Chain, key: jax.Array | None, image: Any, level: Mapping[str, Any]
) -> Any:
    """Degrades a training example (H, W, C); grey images stay grey.

    A grey photograph stored in colour is degraded as one channel, with the noise and compression
    of a grey image. If JAX traces the chain, it is degraded in colour, and all channels become the
    first one: its operators need not take one channel.
    Arguments and result as for a chain; traceable if the chain is.
    """
    if chain.traceable:
        degraded = chain(key, image, level)
        return jnp.where(jnp.all(image == image[..., :1]), degraded[..., :1], degraded)
    if not np.all(image == image[..., :1]):
        return chain(key, image, level)
    grey = chain(key, image[..., :1], level)
    return np.repeat(np.asarray(grey), image.shape[-1], axis=-1)


def degrade_examples(
    chain: Chain,
    keys: Key[Array, " n"] | None,
    images: Real[np.ndarray, "n h w c"],
    levels: Mapping[str, np.ndarray],
) -> Real[np.ndarray, "n h w c"]:
    """Applies `degrade_example` to several examples, on the host.

    Arguments and result as for `Chain.of_each`.
    """
    degraded = chain.of_each(keys, images, levels)
    grey = np.flatnonzero((images == images[..., :1]).all(axis=(1, 2, 3)))
    if not grey.size or images.shape[-1] == 1:
        return degraded
    degraded = degraded.copy()
    for index in grey:
        own = {name: values[index] for name, values in levels.items()}
        key = None if keys is None else keys[index]
        degraded[index] = degrade_example(chain, key, images[index], own)
    return degraded


def example_key(
    key: Key[Array, ""], level: Int[ArrayLike, ""], crop: Int[ArrayLike, ""]
) -> Key[Array, ""]:
    """The key of an example's degradation, from the run's key and the level and crop indices."""
    return jax.random.fold_in(jax.random.fold_in(key, level), crop)
