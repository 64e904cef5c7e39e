"""How a process of several that train together ends."""

import contextlib
import os
import re
import sys
import time
import traceback
from collections.abc import Iterator

import jax

from hypernet_jax.cli.errors import exit_with_sentence
from hypernet_jax.files import remove_partial_files

__all__ = ["ending_with_the_others"]

# Seconds for the other processes to report what they failed of, too.
_LAST_WORDS = 1.0
# Of XLA, where a collective fails. From some it comes as `ValueError`.
_LOST = re.compile("(ABORTED|CANCELLED|DEADLINE_EXCEEDED|INTERNAL|UNAVAILABLE|UNKNOWN): ")


@contextlib.contextmanager
def ending_with_the_others() -> Iterator[None]:
    """Ends this process at once where it, or another one of the run, fails.

    On its way out JAX would wait minutes for processes that wait for this one, and abort. The
    status is that of `exit_with_sentence`; 1 for a lost process and for other exceptions.
    """
    status = 1
    try:
        with exit_with_sentence():
            yield
        return
    except SystemExit as stop:
        if jax.process_count() == 1:
            raise
        status = stop.code if isinstance(stop.code, int) else 1
    except Exception as error:
        if jax.process_count() == 1:
            raise
        if isinstance(error, (jax.errors.JaxRuntimeError, ValueError)) and _LOST.match(str(error)):
            reason = str(error).splitlines()[0].rpartition(": ")[2].rstrip(".")
            print(
                f"error: Another process of this run has ended or cannot be reached ({reason}); "
                "start all of them again, and they resume from the newest checkpoint.",
                file=sys.stderr,
            )
        else:
            traceback.print_exc()
    remove_partial_files()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    if jax.process_index() == 0:
        # Without process 0 JAX aborts the others, which may be about to say the same.
        time.sleep(_LAST_WORDS)
    os._exit(status)
