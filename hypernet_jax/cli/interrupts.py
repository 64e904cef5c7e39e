"""Stopping at once: decoders and encoders do not listen to Ctrl-C until they are done."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from hypernet_jax.files import remove_partial_files

__all__ = ["run_interruptibly", "stopping_at_once"]

# Seconds; a thread that is waited for without a limit keeps signals waiting, too.
_PATIENCE = 0.2


def _stop(*_) -> None:
    remove_partial_files()
    print("Stopped.", file=sys.stderr, flush=True)
    # Not sys.exit: it would wait for the threads at work, and be lost in a callback.
    os._exit(130)


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM end the process, and files that are partly written go."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        defaults = (signal.default_int_handler, signal.SIG_DFL, _stop)
        for number in (signal.SIGINT, signal.SIGTERM):
            # Where the caller has signals ignored, as under nohup, they stay so.
            if signal.getsignal(number) in defaults:
                before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_interruptibly(work: Callable[[], int]) -> int:
    """Runs `work` beside the main thread, which listens to signals meanwhile.

    Returns or raises what `work` does.
    """
    results: list[int] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # handed on, whatever it is
            errors.append(error)

    with stopping_at_once():
        thread = threading.Thread(target=run, name="work", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_PATIENCE)
    if errors:
        raise errors[0]
    return results[0]
