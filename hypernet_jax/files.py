"""Writing files: beside first, then one move, and never over the user's own unasked."""

import contextlib
import os
import uuid
from collections.abc import Iterable
from pathlib import Path

from hypernet_jax.errors import UserError

__all__ = ["check_output", "ensure_folder", "first_free", "write_atomically"]


def ensure_folder(path: str | Path) -> Path:
    """Makes a folder with its parents if it is not there."""
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"The folder {path} cannot be made ({error.strerror}).") from None
    return path


def check_output(path: str | Path, *, overwrite: bool) -> None:
    """Raises `UserError` if `path` may not be written: before hours of work, not after."""
    path = Path(path)
    if path.is_dir():
        raise UserError(f"The output {path} is a folder; give a file name.")
    if path.exists() and not overwrite:
        raise UserError(f"The output {path} already exists; choose another or pass --overwrite.")
    if not os.access(path.parent, os.W_OK):
        reason = "may not be written to" if path.parent.is_dir() else "does not exist"
        raise _unwritable(path, f"its folder {reason}")


def _unwritable(path: Path, reason: str | None) -> UserError:
    return UserError(
        f"The output {path} cannot be written ({reason}); "
        "choose a folder that exists, may be written to and has room."
    )


def first_free(paths: Iterable[Path]) -> Path:
    """The first of the paths at which nothing stands yet."""
    return next(path for path in paths if not path.exists())


def write_atomically(path: str | Path, content: bytes, *, overwrite: bool = False) -> None:
    """Writes a file that appears only when it is complete.

    Raises:
      UserError: if it exists and `overwrite` is false, or it cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    # Not made of the file's own name, which may be as long as names can be.
    beside = path.with_name(f".{uuid.uuid4().hex[:12]}.partial")
    try:
        with beside.open("xb") as file:
            file.write(content)
        os.replace(beside, path)
    except OSError as error:
        raise _unwritable(path, error.strerror) from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
