"""Writing files: beside first, then one move, and never over the user's own unasked."""

import contextlib
import os
import re
import reprlib
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hypernet_jax.errors import UserError

__all__ = [
    "already_exists",
    "check_output",
    "ensure_folder",
    "first_free",
    "identity",
    "is_address",
    "local_path",
    "made_folder",
    "refuse_among",
    "refuse_inputs",
    "remove_partial_files",
    "temporary_folder",
    "unwritable",
    "write_atomically",
    "write_together",
]

# Files that are being written now, and temporary folders.
_partial: set[Path] = set()
# Folders that were made for what is yet to come.
_made: set[Path] = set()
# Held while one of them appears or gets its name; for good once the process ends.
_changing = threading.RLock()


def _begin_child() -> None:
    global _changing
    _changing = threading.RLock()
    # They are the parent's.
    _partial.clear()
    _made.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_child)

# Bytes of a name in a folder.
_LONGEST_NAME = 255
# A path made of an address has one slash after the colon, and Windows' drives one letter before.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:[/\\]")


def is_address(path: str | Path) -> bool:
    """Whether it is an address, such as gs://bucket/run, and no path of this machine."""
    return isinstance(path, (str, os.PathLike)) and bool(_ADDRESS.match(str(os.fspath(path))))


def local_path(path: str | Path) -> Path:
    """The path, or `UserError` for an address such as gs://bucket/run, which is no local file."""
    if not isinstance(path, (str, os.PathLike)):
        raise UserError(f"{reprlib.repr(path)} is no path; give the name of a file or folder.")
    text = os.fspath(path)
    if text == "":
        raise UserError("The name of a file or folder is empty; give one, or . for this folder.")
    if not isinstance(text, str) or "\0" in text:
        raise UserError(f"{text!r} is no path; give the name of a file or folder.")
    try:
        parts = [os.fsencode(part) for part in Path(text).parts]
    except UnicodeEncodeError:
        raise UserError(f"This system cannot have a file of the name {text!r}.") from None
    if any(len(part) > _LONGEST_NAME for part in parts):
        longest = max(Path(text).parts, key=len)
        raise UserError(f"File name too long: {longest[:40]}...; choose a shorter one.")
    if is_address(text):
        scheme = text.partition(":")[0]
        if scheme == "file":
            raise UserError(f"The path {path} is an address; leave out file://.")
        raise UserError(
            f"The path {path} is an address ({scheme}:), and only local files and folders are "
            "read and written; copy it to this machine, or mount it."
        )
    return Path(path)


def ensure_folder(path: str | Path) -> Path:
    """Makes a folder with its parents if it is not there."""
    path = local_path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise UserError(f"{path} is a file; give a folder, or a name of its own.") from None
    except OSError as error:
        raise UserError(f"The folder {path} cannot be made ({error.strerror}).") from None
    return path


def check_output(path: str | Path, *, overwrite: bool) -> None:
    """Raises `UserError` if `path` may not be written: before hours of work, not after."""
    path = local_path(path)
    if str(path) == "-":
        raise UserError("The output - is no file name; give one.")
    if path.is_dir():
        raise UserError(f"The output {path} is a folder; give a file name.")
    if os.path.lexists(path) and not overwrite:  # also a link that leads nowhere
        raise already_exists(path)
    if not os.access(path.parent, os.W_OK):
        reason = "may not be written to" if path.parent.is_dir() else "does not exist"
        raise unwritable(path, f"its folder {reason}")


def refuse_inputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path | None]) -> None:
    """Raises `UserError` if an output is an input as well, under any name.

    Args:
      outputs: local files that will be written.
      inputs: what is read; addresses and None are passed over.
    """
    read = {identity(path) for path in inputs if path is not None and not is_address(path)}
    for path in outputs:
        if identity(path) in read:
            raise UserError(f"The output {path} is also an input; choose another name.")


def refuse_among(output: str | Path, images: str | Path) -> None:
    """Raises `UserError` if an output folder is a folder of images or below it, under any name.

    Args:
      output, images: the two folders; nothing is checked if one of them is an address.
    """
    if is_address(output) or is_address(images):
        return
    if local_path(output).resolve().is_relative_to(local_path(images).resolve()):
        raise UserError(
            f"The folder {output} lies among the images in {images}, where the next run would take "
            "results for images; choose another folder."
        )


def identity(path: str | Path) -> Any:
    """What is equal for all names of a file, links included, whether it exists or not."""
    try:
        found = Path(path).stat()
    except OSError:
        return os.path.realpath(path)  # also of links that lead in a circle
    return found.st_dev, found.st_ino


def already_exists(path: Any) -> UserError:
    """The error for an output, of this machine or a store, that is not replaced unasked."""
    return UserError(f"The output {path} already exists; choose another or pass --overwrite.")


def unwritable(path: Path, reason: str | None) -> UserError:
    """The error for an output that cannot be written, for a reason of the system."""
    return UserError(
        f"The output {path} cannot be written ({reason}); "
        "choose a folder that exists, may be written to and has room."
    )


def first_free(paths: Iterable[Path]) -> Path:
    """The first of the paths at which nothing stands yet."""
    return next(path for path in paths if not path.exists())


def write_atomically(
    path: str | Path, content: bytes, *, overwrite: bool = False, lasting: bool = True
) -> None:
    """Writes a file that appears only when it is complete.

    Args:
      lasting: wait until the content is on the disk; false for files that are soon deleted.

    Raises:
      UserError: if it exists and `overwrite` is false, or it cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    # Not made of the file's own name, which may be as long as names can be.
    beside = path.with_name(f".{uuid.uuid4().hex[:12]}.partial")
    _partial.add(beside)
    try:
        _write(beside, content, lasting=lasting)
        _publish(beside, path, overwrite=overwrite)
    except FileExistsError:
        raise already_exists(path) from None
    except OSError as error:
        raise unwritable(path, error.strerror) from None
    finally:
        _remove(beside)


def write_together(contents: Mapping[Path, bytes], overwrite: bool) -> None:
    """Writes files of one folder, none of which appears before all of them are complete.

    Args:
      contents: what each file is to hold.
      overwrite: replace existing files.

    Raises:
      UserError: as for `write_atomically`.
    """
    for path in contents:
        check_output(path, overwrite=overwrite)
    with temporary_folder(next(iter(contents)).parent) as folder:
        moves = [(folder / f"{index}", path) for index, path in enumerate(contents)]
        try:
            for (beside, _), content in zip(moves, contents.values(), strict=True):
                _write(beside, content, lasting=True)
            for beside, path in moves:
                _publish(beside, path, overwrite=overwrite)
        except FileExistsError:
            raise already_exists(path) from None
        except OSError as error:
            raise unwritable(path, error.strerror) from None


def _write(beside: Path, content: bytes, *, lasting: bool) -> None:
    with _changing:
        file = beside.open("xb")
    with file:
        file.write(content)
        if lasting:  # a name without its content must not outlast a power cut
            file.flush()
            os.fsync(file.fileno())


def _publish(beside: Path, path: Path, *, overwrite: bool) -> None:
    """Gives a file its name; raises `FileExistsError` if that has been taken meanwhile."""
    with _changing:
        if overwrite:
            if path.is_file():
                shutil.copymode(path, beside)
            os.replace(beside, path)
            return
        try:
            os.link(beside, path)
        except FileExistsError:
            raise
        except OSError:  # a file system without links
            check_output(path, overwrite=False)
            os.replace(beside, path)


@contextlib.contextmanager
def temporary_folder(where: Path | None = None, *, prefix: str = "hypernet-jax-") -> Iterator[Path]:
    """A folder that is gone afterwards, or when the process is stopped.

    Args:
      where: the folder to make it in, with the permissions that folders have there; the system's
        place for them, for this user alone, if None.
      prefix: of its name.
    """
    try:
        place = where or Path(tempfile.gettempdir())
    except OSError as error:
        raise UserError(f"{error.strerror}; set TMPDIR to a folder that can be used.") from None
    folder = place / f"{prefix}{uuid.uuid4().hex[:12]}"
    try:
        with _changing:
            folder.mkdir(0o777 if where else 0o700)
            _partial.add(folder)
    except OSError as error:
        raise UserError(f"The folder {place} cannot be written to ({error.strerror}).") from None
    try:
        yield folder
    finally:
        _remove(folder)


@contextlib.contextmanager
def made_folder(path: str | Path) -> Iterator[Path]:
    """As `ensure_folder`; those that it makes are removed at the end if nothing is in them."""
    path, new = local_path(path), []
    for folder in reversed((path, *path.parents)):
        # One that is there, or see `ensure_folder`.
        with contextlib.suppress(OSError), _changing:
            folder.mkdir()
            new.append(folder)
            _made.add(folder)
    try:
        yield ensure_folder(path)
    finally:
        _remove_empty(new)


def remove_partial_files() -> None:
    """Removes what is written partly now: for a process that ends in the middle of its work.

    Other threads make and name no more files from then on; they wait.
    """
    _changing.acquire(timeout=1.0)
    for path in list(_partial):
        _remove(path)
    _remove_empty(list(_made))


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in sorted(folders, key=lambda each: len(each.parts), reverse=True):
        with contextlib.suppress(OSError):  # one that holds something stays
            folder.rmdir()
        _made.discard(folder)


def _remove(path: Path) -> None:
    for _ in range(5):  # a thread may be writing to it
        if not path.is_dir():
            break
        shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    _partial.discard(path)
