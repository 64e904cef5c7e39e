"""What weights record of the levels that they were trained for, and how it is checked."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hypernet_jax.errors import UserError
from hypernet_jax.levels import LevelSpace

__all__ = ["check_trained_levels", "notes_on", "trained_levels"]

# Range of z below which a part of the level has next to no influence.
_LEAST_RANGE = 0.01
# Largest difference in z that is due to rounding alone.
_ROUNDING = 1e-4


def trained_levels(
    space: LevelSpace, low: Sequence[float], high: Sequence[float]
) -> list[dict[str, Any]]:
    """A record of each axis, JSON-compatible: its name, the range trained, and z in it.

    Args:
      space: the space of the levels.
      low, high: of each axis, in native units.

    Returns:
      Dicts with "name", "low", "high" and "z", which has three values: at the lower end of the
      range, in its middle and at its upper end.
    """
    records = []
    for axis, first, last in zip(space.axes, low, high, strict=True):
        z = np.asarray(axis.normalise(np.linspace(float(first), float(last), 3)))
        records.append(
            {
                "name": axis.name,
                "low": float(first),
                "high": float(last),
                "z": [round(float(each), 6) for each in z],
            }
        )
    return records


def notes_on(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Sentences on parts of the level that training hardly varies, if it varies any."""
    varied = [record for record in records if record["low"] < record["high"]]
    notes = []
    for record in records if varied else ():
        name, z = record["name"], record["z"]
        if record not in varied:
            notes.append(
                f"{name} is always {record['low']:g} in training; if that is not meant, check "
                "config.levels.low, which has the lows of all parts, and config.levels.high."
            )
        elif max(z) - min(z) < _LEAST_RANGE:
            notes.append(
                f"z of {name} goes only from {min(z):g} to {max(z):g}, so the networks will hardly "
                "differ; set config.levels.far to the level where z is to be 1."
            )
    return notes


def check_trained_levels(records: Sequence[Mapping[str, Any]], space: LevelSpace) -> None:
    """Raises `UserError` if levels of a space mean something else than when weights were trained.

    Args:
      records: as `trained_levels` returns them.
      space: the space of the levels now.
    """
    names = tuple(record["name"] for record in records)
    if names != space.names:
        raise UserError(
            f"The weights were trained for levels with the parts {', '.join(names)}, but those of "
            f"the task are now {', '.join(space.names)}; restore its axes, or train again."
        )
    for axis, record in zip(space.axes, records, strict=True):
        z = np.asarray(axis.normalise(np.linspace(record["low"], record["high"], 3)))
        if not np.allclose(z, record["z"], atol=_ROUNDING, equal_nan=True):
            raise UserError(
                f"The normalisation of {axis.name} has changed since the weights were trained: z "
                f"at {record['high']:g} was {record['z'][-1]:g} and is now {z[-1]:g}; restore it, "
                "or train again."
            )
