"""The signals that ask a process to end."""

import signal

__all__ = ["ENDING"]

# Ctrl-C, a request to end, and the end of a terminal, which Windows does not have.
ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
