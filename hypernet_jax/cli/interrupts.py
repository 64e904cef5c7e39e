"""Stopping at once: decoders and encoders do not listen to Ctrl-C until they are done."""

import os
import signal
import sys
import threading
from collections.abc import Callable

from hypernet_jax.files import remove_partial_files

__all__ = ["run_interruptibly"]

# Seconds; a thread that is waited for without a limit keeps signals waiting, too.
_PATIENCE = 0.2


def run_interruptibly(work: Callable[[], int]) -> int:
    """Runs `work` beside the main thread, which ends the process at Ctrl-C or SIGTERM.

    Files that are partly written then are removed. Returns or raises what `work` does.
    """
    results: list[int] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # handed on, whatever it is
            errors.append(error)

    def stop(*_) -> None:
        raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if in_main_thread else None
    thread = threading.Thread(target=run, name="work", daemon=True)
    try:
        thread.start()
        while thread.is_alive():
            thread.join(_PATIENCE)
    except KeyboardInterrupt:
        remove_partial_files()
        print("Stopped.", file=sys.stderr, flush=True)
        # Not sys.exit, which would wait for the threads at work.
        os._exit(130)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    if errors:
        raise errors[0]
    return results[0]
