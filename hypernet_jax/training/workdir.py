"""The folder of a run: what may be in it, and that one process at a time trains there."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypernet_jax.errors import UserError
from hypernet_jax.storage import made_place

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["alone_in", "checked_workdir"]


@contextlib.contextmanager
def checked_workdir(workdir: Any) -> Iterator[None]:
    """Makes the workdir, and removes it at the end if the block wrote nothing there.

    Raises:
      UserError: if it cannot be made, or something foreign there has our names.
    """
    with made_place(workdir):
        if isinstance(workdir, Path):  # in a store a file and a folder may have the same name
            _check_names(workdir)
        yield


def _check_names(workdir: Path) -> None:
    for name in ("checkpoints", "tensorboard"):
        if (workdir / name).exists() and not (workdir / name).is_dir():
            raise UserError(f"{workdir / name} is not a folder; choose another --workdir.")
    if (workdir / "metrics.jsonl").is_dir():
        raise UserError(f"{workdir / 'metrics.jsonl'} is a folder; choose another --workdir.")


@contextlib.contextmanager
def alone_in(workdir: Any) -> Iterator[None]:
    """Keeps other processes of this machine from training in the workdir meanwhile.

    The lock ends with the process, however it ends. Stores, Windows and some network file systems
    have none.

    Raises:
      UserError: if another process trains there.
    """
    if fcntl is None or not isinstance(workdir, Path):
        yield
        return
    folder = os.open(workdir, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"Another process trains in the workdir {workdir}; wait for its end, or give "
                "another --workdir."
            ) from None
        except OSError:  # no locks there
            pass
        yield
    finally:
        os.close(folder)
