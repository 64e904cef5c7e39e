"""`UserError`, the exception for mistakes that the user can correct."""

import contextlib
import math
import re
import reprlib
from collections.abc import Iterator
from typing import Any

__all__ = [
    "DEVICE_FULL",
    "UserError",
    "check_name",
    "is_boolean",
    "is_device_full",
    "missing_extra",
    "prefixed",
    "real_number",
]

# What only an extra installs.
_TRAINING = {
    *("array_record", "grain", "matplotlib", "ml_collections", "optax", "orbax"),
    *("tensorboardX", "tensorflow_datasets"),
}
_EXTRAS = {"apache_beam": "beam"} | dict.fromkeys(_TRAINING, "train")


class UserError(ValueError):
    """A mistake in the user's input, explained in one sentence.

    The message says what was wrong and what to do. Commands print it to
    standard error and exit with status 2; library users see a `ValueError`.
    """


def is_device_full(error: Exception) -> bool:
    """Whether XLA reports that a device is out of memory, by its text: jax is not imported."""
    return str(error).startswith("RESOURCE_EXHAUSTED")


# What to do where `is_device_full`.
DEVICE_FULL = (
    "The device does not have enough memory for this; for training, lower config.data.crops or "
    "config.data.crop_size, or set config.remat=True."
)


def missing_extra(error: ModuleNotFoundError) -> UserError | None:
    """What to install for a module that is not found, where it belongs to `train` or `beam`."""
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        return None
    return UserError(
        f"This needs {package}, which is not installed: "
        f"pip install 'hypernet-jax[{_EXTRAS[package]}]'."
    )


def is_boolean(value: Any) -> bool:
    """Whether it is a boolean, of Python or an array, which would count as the number 0 or 1."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")


def real_number(value, name: str) -> float:
    """The value as a finite float; the `UserError` otherwise calls it `name`."""
    try:
        number = float("" if is_boolean(value) else value)
    except (TypeError, ValueError, OverflowError):
        raise UserError(f"The {name} {reprlib.repr(value)} is not a number; give one.") from None
    if not math.isfinite(number):
        raise UserError(f"The {name} is {number}; give a finite number.")
    return number


def check_name(what: str, name: Any) -> None:
    """Raises `UserError` unless `name` is letters, digits, "_" and "-", a letter first.

    Args:
      what: what is called so, for the message, e.g. "A task".
      name: the name.
    """
    if not isinstance(name, str) or not re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", name):
        raise UserError(
            f"{what} cannot be called {name!r}; use letters, digits, _ and -, and a letter first."
        )


@contextlib.contextmanager
def prefixed(text: str) -> Iterator[None]:
    """Puts a text and a colon before the message of a `UserError`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{text}: {error}") from None
