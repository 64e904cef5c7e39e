"""How every command tells a mistake: one sentence, exit status 2."""

import contextlib
import io
import os
import sys

from hypernet_jax.errors import UserError, is_device_full, missing_extra

__all__ = ["exit_with_sentence"]


@contextlib.contextmanager
def exit_with_sentence():
    """Turns a `UserError` into its sentence on standard error and exit status 2."""
    # A file's name may hold what the terminal, or text as such, has no letter for.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
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
        # Whoever read the output has read enough; nothing more is to be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # What no one foresaw in reading or writing still is the machine's word to its user.
        where = f": {error.filename}" if error.filename else ""
        print(f"error: {error.strerror or error}{where}.", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:
        if not is_device_full(error):
            raise
        print(
            "error: The device has not enough memory for this; in training lower "
            "config.data.crops or crop_size, or take config.remat=True.",
            file=sys.stderr,
        )
        sys.exit(2)
    except ValueError as error:
        # JAX reads its flags from the environment as it is imported.
        if "JAX" not in str(error) or (
            "nvironment" not in str(error) and " flag " not in str(error)
        ):
            raise
        print(f"error: JAX refuses its environment: {error}; unset it.", file=sys.stderr)
        sys.exit(2)
    except MemoryError:
        print("error: There is not enough memory for this; close other programs.", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)
