"""Running `train.py` and `evaluate.py`: absl flags, but mistakes are explained in one sentence."""

from collections.abc import Callable, Sequence

from absl import app, flags, logging

from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.errors import UserError

__all__ = ["run_script"]


def _sentence(error: Exception) -> str:
    """What absl and ml_collections mean, without their tracebacks."""
    text = str(error)
    before, found, sentence = text.rpartition("UserError: ")
    del before
    if found:  # a mistake of ours, raised while the config file ran
        return sentence.splitlines()[0]
    if (
        isinstance(error, AttributeError) and "Did you mean" in text
    ):  # an override of a field that is not there
        text = text.strip("'\"").replace("\\n", " ").replace("\\'", "'").replace("\n", " ")
        text = text.replace(" Did you", "; did you")
        return f"The config has no field {text.rstrip('?.')}? The config file tells its fields."
    name = text.strip("'\"")
    if isinstance(error, AttributeError) and name.isidentifier():
        return f"The config has no field {name!r}; the config file tells its fields."
    if isinstance(error, OSError):
        return "The config file given by --config does not exist or cannot be read; check the path."
    if not isinstance(error, flags.Error):
        reason = ": ".join([type(error).__name__, *text.splitlines()[-1:]])
        return f"The config file cannot be run ({reason})."
    return f"{text.strip().splitlines()[0].rstrip('.')}; see --help."


def _parse(argv: Sequence[str]) -> list[str]:
    try:
        arguments = flags.FLAGS(argv)
        # A config file that cannot be loaded is noticed only when it is looked at.
        getattr(getattr(flags.FLAGS, "config", None), "task", None)
    # A config file is a program: it may fail in any way.
    except Exception as error:
        raise UserError(_sentence(error)) from None
    if len(arguments) > 1:
        raise UserError(f"Unexpected argument {arguments[1]!r}; options start with --, see --help.")
    return arguments


def run_script(main: Callable[[list[str]], None]) -> None:
    """`app.run` that explains every mistake in a sentence and exits with status 2."""
    with exit_with_sentence():
        # Orbax and XLA tell every file and backend; --verbosity=0 shows it again.
        logging.set_verbosity(logging.WARNING)
        app.run(main, flags_parser=_parse)
