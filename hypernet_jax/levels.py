"""Degradation levels: spaces of one axis or several, and how levels are parsed.

A level has one part for each axis of a `LevelSpace`: noise alone, or noise, JPEG and blur.
Levels are in native units (sigma in 8-bit grey levels, JPEG quality, scale factor) everywhere;
only `LevelSpace.normalise` maps them to z, the input of the hypernetwork's feature map.

The last axis of an array of levels always holds the parts: (A,) for one level, (K, A) for the
levels of a training step, (K, N, A) for one level per crop, (N, H, W, A) for one per pixel.
"""

import dataclasses
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float32, Real

from hypernet_jax.axes import BLUR_SIGMA, CAMERA_NOISE, JPEG_QUALITY, LevelAxis, in_full
from hypernet_jax.errors import UserError, real_number

__all__ = [
    "AUTO",
    "PHOTO",
    "STRONGEST",
    "Level",
    "LevelRequest",
    "LevelSpace",
    "axes_of",
    "checked_strength",
]

# Stands for a part of a level that is to be estimated from the image.
AUTO = "auto"
# The largest factor by which a level may be strengthened.
STRONGEST = 2.0


@dataclasses.dataclass(frozen=True)
class LevelSpace:
    """The level space of a task: one axis or several.

    Attributes:
      axes: in the order of the parts in every array of levels.
    """

    axes: tuple[LevelAxis, ...]

    def __post_init__(self):
        if not isinstance(self.axes, tuple) or not all(
            isinstance(axis, LevelAxis) for axis in self.axes
        ):
            raise UserError("A level space is made of axes; write LevelSpace.of(axis, ...).")
        if not self.axes or len(set(self.names)) != len(self.axes):
            raise UserError("The levels of a task need one or more axes, of different names.")

    @classmethod
    def of(cls, *axes: LevelAxis) -> "LevelSpace":
        """The space with these axes."""
        return cls(axes)

    def __len__(self) -> int:
        return len(self.axes)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the axes."""
        return tuple(axis.name for axis in self.axes)

    @property
    def single(self) -> LevelAxis:
        """The only axis.

        Raises:
          UserError: if there are several.
        """
        if len(self.axes) > 1:
            raise UserError(
                f"This needs a level with one part, but levels of this task have {len(self.axes)} "
                f"parts: {', '.join(self.names)}."
            )
        return self.axes[0]

    @property
    def neutral(self) -> "Level":
        """The level of an image that is not degraded."""
        return Level(self, tuple(axis.neutral for axis in self.axes))

    @property
    def default(self) -> "Level":
        """The level when no part is given: the neutral one, or the only one."""
        return Level(self, tuple(axis.default for axis in self.axes))

    @property
    def low(self) -> "Level":
        """The smallest value of every part."""
        return Level(self, tuple(axis.low for axis in self.axes))

    @property
    def high(self) -> "Level":
        """The largest value of every part."""
        return Level(self, tuple(axis.high for axis in self.axes))

    @property
    def only(self) -> "Level | None":
        """The single level that a plain network serves; None if there is a range."""
        return None if any(axis.only is None for axis in self.axes) else self.low

    def parse(self, level: Any) -> "Level":
        """Parses and checks a level, once, at the public boundary.

        Args:
          level: a number or its text, for a space of one axis; {"noise": 15, "jpeg": 40};
            "noise=15,jpeg=40"; a sequence with a number for each axis; or a `Level`. Parts that
            are not named take their neutral value.

        Returns:
          A hashable `Level` of this space, at the precision that was given.

        Raises:
          UserError: if it is not a level, or is outside the range.
        """
        if isinstance(level, Level):
            if level.space == self:
                return level
            level = level.named
        parts = self._parts(level)
        return Level(
            self, tuple(axis.valid(parts.get(axis.name, axis.default)) for axis in self.axes)
        )

    def parse_map(self, levels: Any, size: tuple[int, int]) -> Float32[np.ndarray, "h w a"]:
        """Checks an array that gives each pixel a level.

        Args:
          levels: (H, W, A) in native units; (H, W) for a space of one axis.
          size: (H, W) of the image.

        Returns:
          float32 (H, W, A).

        Raises:
          UserError: if the shape does not fit, or values are outside the range.
        """
        given = levels = np.asarray(levels)
        if levels.ndim == 2 and len(self) == 1:
            levels = levels[..., None]
        if levels.shape != (*size, len(self)) or levels.dtype.kind not in "uif":
            wanted = size if len(self) == 1 else (*size, len(self))
            raise UserError(
                f"The level map of an image of {size[1]}x{size[0]} pixels must be an array of "
                f"numbers of shape {tuple(wanted)}, not {given.dtype} of {given.shape}."
            )
        levels = levels.astype(np.float32)
        for index, axis in enumerate(self.axes):
            part = levels[..., index]
            low, high = np.float32(axis.low), np.float32(axis.high)
            if not (part.min() >= low and part.max() <= high):  # also catches NaN
                raise UserError(
                    f"Some levels in the map are out of range; give {axis.with_article()}."
                )
        return levels

    def parse_list(self, text: str) -> list["Level"]:
        """Parses several levels: "5,15,25" for one axis, "noise=5,jpeg=40; noise=15" for several.

        Raises:
          UserError: as `parse`.
        """
        levels = self.separated(text)
        try:
            return [self.parse(level) for level in levels]
        except UserError as error:
            if len(self) == 1 or len(levels) > 1:
                raise
            raise UserError(
                f"{str(error).rstrip('.')}; several levels are separated by semicolons."
            ) from None

    def format_list(self, levels: Iterable[Any]) -> str:
        """The text from which `parse_list` reads these levels.

        Raises:
          UserError: as `parse`.
        """
        return ("," if len(self) == 1 else "; ").join(str(self.parse(each)) for each in levels)

    def request_list(self, text: str) -> list["LevelRequest"]:
        """As `parse_list`, but some or all parts of a level may be "auto"."""
        return [self.request(level) for level in self.separated(text)]

    def separated(self, levels: Any) -> list[Any]:
        """Single levels, not yet parsed, of text as `parse_list` takes it, one level or several."""
        if isinstance(levels, str):
            return levels.split("," if len(self) == 1 and ";" not in levels else ";")
        several = isinstance(levels, Iterable) and getattr(levels, "ndim", 1) > 0
        return list(levels) if several and not isinstance(levels, Mapping) else [levels]

    def request(self, level: Any) -> "LevelRequest":
        """As `parse`, but some or all parts may be "auto".

        Raises:
          UserError: as `parse`.
        """
        if _is_auto(level):
            return LevelRequest(self, (None,) * len(self))
        if isinstance(level, LevelRequest):
            return level if level.space == self else self.request(level.named)
        parts = self._parts(level.named if isinstance(level, Level) else level)
        values = []
        for axis in self.axes:
            part = parts.get(axis.name, axis.default)
            values.append(None if _is_auto(part) else axis.valid(part))
        return LevelRequest(self, tuple(values))

    def _parts(self, level: Any) -> Mapping[str, Any]:
        """The value given for each axis; checks only the names."""
        if isinstance(level, str) and "=" in level:
            level = [_name_and_value(part) for part in level.split(",")]
            if len({name for name, _ in level}) < len(level):
                raise UserError(f"A part is given twice; give each part once: {self.describe()}.")
            level = dict(level)
        if isinstance(level, Mapping):
            unknown = [name for name in level if name not in self.names]
            if unknown:
                raise UserError(
                    f"Levels of this task have no part {unknown[0]!r}; the parts are "
                    f"{self.describe()}."
                )
            return level
        if _is_sequence(level) and len(level) == len(self):
            return dict(zip(self.names, level, strict=True))
        if len(self) == 1:
            return {self.names[0]: level}
        raise UserError(
            f"The level {reprlib.repr(level)} does not name its parts; write it like "
            f"{self._example()}, with these parts: {self.describe()}."
        )

    def _example(self) -> str:
        """A level in text form: an eighth of each range away from neutral."""
        values = (
            axis.neutral + ((axis.low + axis.high) / 2 - axis.neutral) / 4 for axis in self.axes
        )
        pairs = zip(self.names, values, strict=True)
        return ",".join(f"{name}={value:.2g}" for name, value in pairs)

    def array(self, levels: Iterable[Any]) -> Float32[np.ndarray, "n a"]:
        """Parses several levels, each as `parse` does, to float32 (n, A)."""
        values = [self.parse(level).values for level in levels]
        return np.asarray(values, np.float32).reshape((-1, len(self)))

    def named(self, levels: ArrayLike) -> dict[str, Any]:
        """Splits an array (..., A) into its parts by name, (...) each."""
        return {name: levels[..., index] for index, name in enumerate(self.names)}  # type: ignore[index]

    def normalise(self, levels: Real[ArrayLike, "*n a"]) -> Float32[Array, "*n a"]:
        """Maps levels (..., A) in native units to z, float32 (..., A).

        Raises:
          UserError: if levels of several parts do not have them all.
        """
        levels = jnp.asarray(levels, jnp.float32)
        if len(self) > 1 and (levels.ndim == 0 or levels.shape[-1] != len(self)):
            raise UserError(
                f"Levels of shape {levels.shape} do not end with the {len(self)} parts "
                f"{', '.join(self.names)}."
            )
        if len(self) == 1:
            return self.axes[0].normalise(levels)
        parts = (levels[..., index : index + 1] for index in range(len(self)))
        z = [axis.normalise(part) for axis, part in zip(self.axes, parts, strict=True)]
        return jnp.concatenate(z, axis=-1)

    def scaled(self, level: Any, strength: float) -> "Level":
        """Scales the distance of every part from neutral, in z; 0: neutral, 1: unchanged.

        Raises:
          UserError: as `parse`.
        """
        level = self.parse(level)
        if strength == 1.0:
            return level
        pairs = zip(self.axes, level.values, strict=True)
        return Level(self, tuple(float(axis.scaled(value, strength)) for axis, value in pairs))

    def counted(
        self,
        normalisations: Sequence[str],
        *,
        origins: Sequence[float | None],
        fars: Sequence[float | None],
    ) -> "LevelSpace":
        """The same space with another mapping to z for each axis; see `LevelAxis.counted`."""
        ways = zip(self.axes, normalisations, origins, fars, strict=True)
        return LevelSpace(tuple(axis.counted(n, origin=o, far=f) for axis, n, o, f in ways))

    def at(self, level: Any) -> "LevelSpace":
        """The space of a plain network, which serves only this level."""
        values = self.parse(level).values
        return LevelSpace(
            tuple(
                dataclasses.replace(axis, low=value, high=value)
                for axis, value in zip(self.axes, values, strict=True)
            )
        )

    def describe(self) -> str:
        """The descriptions of the axes, each with its name if there are several."""
        if len(self) == 1:
            return self.axes[0].describe()
        return "; ".join(f"{axis.name}: {axis.describe()}" for axis in self.axes)

    def with_article(self) -> str:
        """As `describe`, with an article if there is one axis."""
        return self.axes[0].with_article() if len(self) == 1 else self.describe()

    def measured(self) -> str:
        """The quantities and units of the axes, for tables."""
        return "; ".join(axis.measured() for axis in self.axes)


@dataclasses.dataclass(frozen=True)
class Level:
    """A checked level, as `LevelSpace.parse` returns it. Hashable.

    Attributes:
      space: the space that it belongs to.
      values: one for each axis, in native units.
    """

    space: LevelSpace = dataclasses.field(repr=False)
    values: tuple[float, ...]

    @property
    def named(self) -> dict[str, float]:
        """The values by name of axis."""
        return dict(zip(self.space.names, self.values, strict=True))

    @property
    def array(self) -> Float32[np.ndarray, " a"]:
        """float32, (A,)."""
        return np.asarray(self.values, np.float32)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return self.array if dtype is None else self.array.astype(dtype)

    def __getitem__(self, name: str) -> float:
        return self.named[name]

    def __float__(self) -> float:
        return self[self.space.single.name]

    def __str__(self) -> str:
        """ "25", or "noise=15,jpeg=40"; `LevelSpace.parse` makes a level of it that gives the
        same network."""
        if len(self.values) == 1:
            return in_full(self.values[0])
        return ",".join(f"{name}={in_full(value)}" for name, value in self.named.items())

    def describe(self, *, digits: int = 6) -> str:
        """For captions: "noise sigma 25", or "noise sigma 15, JPEG quality 40"."""
        parts = zip(self.space.axes, self.values, strict=True)
        # Rounded first, because 100 with two digits would be 1e+02.
        return ", ".join(
            f"{axis.quantity} {float(f'{value:.{digits}g}'):g}" for axis, value in parts
        )

    def plain(self) -> Any:
        """For JSON: a number if there is one axis, otherwise the values by name."""
        return self.values[0] if len(self.values) == 1 else self.named


@dataclasses.dataclass(frozen=True)
class LevelRequest:
    """A level with parts that may still have to be estimated. Hashable.

    Attributes:
      space: the space that it belongs to.
      values: one for each axis; None where it is to be estimated.
    """

    space: LevelSpace = dataclasses.field(repr=False)
    values: tuple[float | None, ...]

    @property
    def estimated(self) -> tuple[str, ...]:
        """Names of the parts to estimate."""
        return tuple(name for name, value in self.named.items() if value == AUTO)

    @property
    def named(self) -> dict[str, float | str]:
        """The values by name of axis; "auto" for those to estimate."""
        values = [AUTO if value is None else value for value in self.values]
        return dict(zip(self.space.names, values, strict=True))

    def __str__(self) -> str:
        """ "auto" if all parts are estimated, otherwise like "25" or "noise=auto,jpeg=40"."""
        if not self.estimated:
            return str(self.level())
        if len(self.estimated) == len(self.values):
            return AUTO
        parts = self.named.items()
        return ",".join(f"{name}={v if isinstance(v, str) else in_full(v)}" for name, v in parts)

    def level(self, estimates: Mapping[str, float] | None = None) -> Level:
        """The level, with estimates (by name) filled in for the parts to estimate.

        Estimates are limited to the range of their part.
        """
        found = estimates or {}
        pairs = zip(self.space.axes, self.values, strict=True)
        values = (
            axis.valid(axis.limited(found[axis.name])) if v is None else v for axis, v in pairs
        )
        return Level(self.space, tuple(values))


def checked_strength(value: Any, called: str) -> float:
    """The strength as a number; `UserError` outside 0 to `STRONGEST`."""
    strength = real_number(value, called)
    if not 0.0 <= strength <= STRONGEST:
        raise UserError(f"The {called}, {strength:g}, is out of range; give 0 to {STRONGEST:g}.")
    return strength


def axes_of(value: Any) -> int:
    """The number of axes of an array of NumPy, JAX, PyTorch or the like; 0 for all else."""
    return value.ndim if hasattr(value, "__array__") and hasattr(value, "ndim") else 0


def _is_sequence(level: Any) -> bool:
    return isinstance(level, (tuple, list)) or axes_of(level) == 1


def _name_and_value(part: str) -> tuple[str, str]:
    """Splits "noise=15"; both may be surrounded by spaces."""
    name, _, value = (each.strip() for each in part.partition("="))
    if not name and not value:
        raise UserError("There is a comma too many in the level; remove it.")
    if not value:
        raise UserError(f"The part {name!r} of the level has no value; write it like {name}=10.")
    return name, value


def _is_auto(part: Any) -> bool:
    return isinstance(part, str) and part.strip() == AUTO


# The degradations of an ordinary photograph.
PHOTO = LevelSpace.of(CAMERA_NOISE, JPEG_QUALITY, BLUR_SIGMA)
