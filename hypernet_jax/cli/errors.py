"""Error reporting for all commands: one sentence on standard error, exit status 2."""

import contextlib
import io
import os
import sys
import warnings
from pathlib import Path

from hypernet_jax.errors import DEVICE_FULL, UserError, is_device_full, missing_extra

__all__ = ["exit_with_sentence"]

_PACKAGE = Path(__file__).parent.parent
_FORMAT = warnings.formatwarning


@contextlib.contextmanager
def exit_with_sentence():
    """Prints a `UserError` as one sentence on standard error and exits with status 2."""
    # File names may hold characters that the terminal cannot show or that are not valid text.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = _formatted
    try:
        yield
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except ModuleNotFoundError as error:
        missing = missing_extra(error)
        if missing is None:
            raise
        print(f"error: {missing}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader closed the pipe: nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # Unforeseen I/O errors: the system's own message is a sentence for the user.
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {error.strerror or error}{where}.", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if not is_device_full(error):
            raise
        print(f"error: {DEVICE_FULL}", file=sys.stderr)
        sys.exit(2)
    except ValueError as error:
        # JAX reads its flags from the environment when it is imported.
        if "JAX" not in str(error) or (
            "nvironment" not in str(error) and " flag " not in str(error)
        ):
            raise
        print(f"error: JAX rejects an environment variable: {error}; unset it.", file=sys.stderr)
        sys.exit(2)
    except MemoryError:
        print("error: There is not enough memory for this; close other programs.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)


def _formatted(message, category, filename, lineno, line=None) -> str:
    """Our own warnings are sentences; those of other packages say where they are from."""
    if category is UserWarning and Path(filename).is_relative_to(_PACKAGE):
        return f"warning: {message}\n"
    return _FORMAT(message, category, filename, lineno, line)
