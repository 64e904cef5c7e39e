"""Signals that end a process at once, after what is written partly has been removed."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator

from hypernet_jax.files import remove_partial_files
from hypernet_jax.signals import ENDING

__all__ = ["stopping_at_once"]

_PATIENCE = 5.0  # seconds that one thread waits for another one to clean up
_FLUSHING = 1.0  # seconds that streams have to take what was written

_ending = threading.RLock()
_begun = False


def _say_stopped() -> None:
    # The terminal may be gone.
    with contextlib.suppress(OSError):
        os.write(2, b"Stopped.\n")
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        sys.stdout.flush()


def _stop(*_) -> None:
    """Ends the process.

    A signal reaches the watching thread and, through Python's handler, the main thread, which may
    hold any lock at that moment. So nothing here waits for ever for the other thread.
    """
    global _begun
    if not _ending.acquire(timeout=_PATIENCE):
        os._exit(130)
    if _begun:  # another signal, in the thread that is ending the process
        return
    _begun = True
    remove_partial_files()
    saying = threading.Thread(target=_say_stopped, daemon=True)
    saying.start()
    saying.join(_FLUSHING)
    # Not sys.exit: it would wait for running threads, and have no effect in a callback.
    os._exit(130)


def _watch(signals: socket.socket) -> None:
    """Stops as soon as a signal comes: Python's handlers wait for compiled code to return."""
    with signals:
        while numbers := signals.recv(64):
            # Others may have taken the signal over meanwhile.
            if any(signal.getsignal(number) is _stop for number in numbers):
                _stop()


if hasattr(os, "register_at_fork"):
    # What a child is sent must not end its parent.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """Context in which partly written files are removed before a signal ends the process.

    The signals are Ctrl-C, SIGTERM, and SIGHUP, which the end of a terminal sends. They do not wait
    for decoders, compilers and other compiled code.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {}
    defaults = (signal.default_int_handler, signal.SIG_DFL, _stop)
    for number in ENDING:
        # Signals that the caller ignores, as under nohup, stay ignored.
        if signal.getsignal(number) in defaults:
            before[number] = signal.signal(number, _stop)
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader,), name="signals", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous)
        writer.close()
        watcher.join()
