"""The one exception type that means "the user can put this right"."""

__all__ = ["UserError"]


class UserError(ValueError):
    """A mistake in what the user asked for, told in one sentence.

    The message says what was wrong and what to do. Commands print it to
    standard error and exit with status 2; library users see a `ValueError`.
    """
