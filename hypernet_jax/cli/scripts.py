"""Runs `train.py` and `evaluate.py`: absl flags, with every mistake reported in one sentence."""

from collections.abc import Callable, Sequence

from absl import app, flags, logging

from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.cli.interrupts import stopping_at_once
from hypernet_jax.errors import UserError
from hypernet_jax.plugins import load_plugins

__all__ = ["run_script"]


def _sentence(error: Exception) -> str:
    """The errors of absl and ml_collections as one sentence, without tracebacks."""
    text = str(error)
    before, found, sentence = text.rpartition("UserError: ")
    del before
    if found:  # a `UserError` raised while the config file ran
        return sentence.splitlines()[0]
    if (
        isinstance(error, AttributeError) and "Did you mean" in text
    ):  # an override of an unknown field
        text = text.strip("'\"").replace("\\n", " ").replace("\\'", "'").replace("\n", " ")
        text = text.replace(" Did you", "; did you")
        return f"The config has no field {text.rstrip('?.')}? See the config file for its fields."
    name = text.strip("'\"")
    if isinstance(error, AttributeError) and name.isidentifier():
        return f"The config has no field {name!r}; see the config file for its fields."
    if isinstance(error, OSError):
        file = error.filename or "given by --config"
        return (
            f"The config file {file} does not exist or cannot be read; give one such as "
            "configs/denoise.py:compact."
        )
    if "Traceback" in text:  # absl's form of a TypeError or ValueError of the config file
        return f"The config file cannot be run ({text.strip().splitlines()[-1]})."
    if not isinstance(error, flags.Error):
        reason = ": ".join([type(error).__name__, *text.splitlines()[-1:]])
        return f"The config file cannot be run ({reason})."
    return f"{text.strip().splitlines()[0].rstrip('.')}; see --help."


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        arguments = flags.FLAGS(argv)
        # Reading a field loads the config file, and shows whether it can be loaded.
        getattr(getattr(flags.FLAGS, "config", None), "task", None)
    # A config file is a program: it may raise anything.
    except Exception as error:
        raise UserError(_sentence(error)) from None
    if len(arguments) > 1:
        raise UserError(f"Unexpected argument {arguments[1]!r}; options start with --, see --help.")
    return arguments


def run_script(main: Callable[[list[str]], None]) -> None:
    """`app.run` that reports every mistake in one sentence and exits with status 2."""
    with exit_with_sentence(), stopping_at_once():
        # Orbax and XLA log every file and backend; --verbosity=0 shows these messages.
        logging.set_verbosity(logging.WARNING)
        load_plugins()
        app.run(main, flags_parser=_parse)
