"""The one exception type that means "the user can put this right"."""

__all__ = ["UserError", "is_device_full"]


class UserError(ValueError):
    """A mistake in what the user asked for, told in one sentence.

    The message says what was wrong and what to do. Commands print it to
    standard error and exit with status 2; library users see a `ValueError`.
    """


def is_device_full(error: Exception) -> bool:
    """Whether XLA says that a device has no memory left: by its text, without importing jax."""
    return str(error).startswith("RESOURCE_EXHAUSTED")
