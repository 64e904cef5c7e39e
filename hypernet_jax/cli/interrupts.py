"""Immediate Ctrl-C: decoders and encoders do not react to signals until they are done."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from hypernet_jax.files import remove_partial_files

__all__ = ["run_interruptibly", "stopping_at_once"]

# Seconds between checks: waiting for a thread without a timeout would delay signals.
_PATIENCE = 0.2


def _stop(*_) -> None:
    remove_partial_files()
    # The terminal may be gone, and the work may be writing at this moment.
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        print("Stopped.", file=sys.stderr, flush=True)
    # Not sys.exit: it would wait for running threads, and have no effect in a callback.
    os._exit(130)


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """Context in which partly written files are removed before a signal ends the process.

    The signals are Ctrl-C, SIGTERM, and SIGHUP, which the end of a terminal sends.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        defaults = (signal.default_int_handler, signal.SIG_DFL, _stop)
        names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
        for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
            # Signals that the caller ignores, as under nohup, stay ignored.
            if signal.getsignal(number) in defaults:
                before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_interruptibly(work: Callable[[], int]) -> int:
    """Runs `work` in a thread while the main thread handles signals.

    Returns or raises what `work` does.
    """
    results: list[int] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # re-raised in the main thread
            errors.append(error)

    with stopping_at_once():
        thread = threading.Thread(target=run, name="work", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_PATIENCE)
    if errors:
        raise errors[0]
    return results[0]
