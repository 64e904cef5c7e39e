"""Paths on this machine and in stores elsewhere, such as buckets.

An address, `scheme://bucket/name`, is an `etils.epath` path, which has the methods of
`pathlib.Path`. A place that reads or writes files takes `storage_path`; one that cannot do
without local files takes `files.local_path`, which refuses addresses.
"""

import concurrent.futures
import contextlib
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from hypernet_jax.buckets import SCHEMES, patiently, prepare_scheme, send_file
from hypernet_jax.errors import UserError
from hypernet_jax.files import (
    already_exists,
    check_output,
    ensure_folder,
    is_address,
    local_path,
    made_folder,
    temporary_folder,
    write_atomically,
)

__all__ = [
    "at_once",
    "check_target",
    "ensure_place",
    "files_below",
    "local_copy",
    "made_place",
    "names_in",
    "register_storage",
    "resolved_path",
    "storage_path",
    "write_whole",
]

T = TypeVar("T")
R = TypeVar("R")

# Most files are small: what takes time is the way there and back.
_AT_ONCE = 8

_schemes: set[str] = set()


def register_storage(scheme: str, path_class: type) -> None:
    """Makes `scheme://...` an address that can be read and written; gs and s3 are already.

    Args:
      scheme: such as "az".
      path_class: a subclass of `pathlib.PurePosixPath`, made from the whole address. Weights and
        reports need `exists`, `is_file`, `is_dir`, `read_bytes`, `write_bytes` and `unlink` of
        `pathlib.Path`; datasets and workdirs `iterdir`, `rglob`, `stat`, `open`, `mkdir` and
        `rmtree(missing_ok)` as well. `write_bytes` makes a file appear whole or not at all.
    """
    from etils import epath

    epath.register_path_cls(f"{scheme}://")(path_class)
    _schemes.add(scheme)


def storage_path(path: str | Path) -> Any:
    """The path, of this machine or of a store.

    Raises:
      UserError: for what is no path, an address of a scheme that is not registered, or one whose
        package is not installed.
    """
    scheme = os.fspath(path).partition(":")[0] if is_address(path) else ""
    if scheme in SCHEMES:
        prepare_scheme(scheme)
    elif scheme not in _schemes:
        if scheme and scheme != "file":
            raise UserError(
                f"The address {path} is of no known kind; give a path of this machine, or an "
                f"address of {' or '.join(f'{each}://' for each in (*SCHEMES, *sorted(_schemes)))}."
            )
        return local_path(path)
    from etils import epath

    place = epath.Path(path)
    if scheme in SCHEMES and not str(place).removeprefix(f"{scheme}://").strip("/"):
        raise UserError(f"The address {path} names no bucket; give {scheme}://BUCKET/NAME.")
    return place


def resolved_path(path: str | Path) -> Any:
    """A `storage_path` that means the same in every folder and process."""
    place = storage_path(path)
    return place.resolve() if isinstance(place, Path) else place


@contextlib.contextmanager
def local_copy(path: Any) -> Iterator[Path]:
    """A file of this machine with the content of a `storage_path`; the file itself if it is one."""
    if isinstance(path, Path):
        yield path
        return
    with temporary_folder() as folder:
        copy = folder / path.name
        copy.write_bytes(patiently(path.read_bytes, path))
        yield copy


def names_in(folder: Any) -> list[str]:
    """Names of what is in a folder of a store, sorted; none if there is no such folder."""

    def listed() -> list[str]:
        try:
            return sorted(path.name for path in folder.iterdir() if path.name)
        except FileNotFoundError:
            return []

    return patiently(listed, folder)


def files_below(folder: Any) -> dict[str, int]:
    """Names, relative to a `storage_path`, and sizes in bytes of all files below it, in any order.

    A bucket is listed in few requests, not in one for each file.
    """

    def found_by_walking() -> dict[str, int]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files}

    def found_in_bucket() -> dict[str, int]:
        import fsspec

        store, root = fsspec.core.url_to_fs(str(folder))
        root = root.rstrip("/") + "/"
        return {
            name.removeprefix(root): int(about["size"] or 0)
            for name, about in store.find(root, detail=True).items()
            if name.startswith(root)
        }

    in_bucket = str(folder).partition(":")[0] in SCHEMES and not isinstance(folder, Path)
    return patiently(found_in_bucket if in_bucket else found_by_walking, folder)


def at_once(action: Callable[[T], R], things: Iterable[T]) -> list[R]:
    """What the action, such as reading a file of a store, returns for each; several at a time."""
    with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(action, things))


def ensure_place(folder: str | Path) -> Any:
    """The folder as a `storage_path`; made, or in a store tried, since buckets have no folders.

    Raises:
      UserError: if nothing can be written there: before hours of work, not after.
    """
    place = storage_path(folder)
    if isinstance(place, Path):
        return ensure_folder(place)
    trial = place / f".trial-{uuid.uuid4().hex[:12]}"
    # Failures are those of the folder: nobody has heard of the file.
    patiently(lambda: trial.write_bytes(b"may be deleted\n"), place)
    patiently(lambda: trial.unlink(missing_ok=True), place)
    return place


@contextlib.contextmanager
def made_place(folder: str | Path) -> Iterator[Any]:
    """As `ensure_place`; folders that it makes are removed at the end if nothing is in them."""
    place = storage_path(folder)
    if isinstance(place, Path):
        with made_folder(place):
            yield place
    else:
        yield ensure_place(place)


def check_target(path: str | Path, *, overwrite: bool) -> None:
    """Raises `UserError` if the file exists, unless `overwrite`, or the store does not answer."""
    target = storage_path(path)
    if isinstance(target, Path):
        check_output(target, overwrite=overwrite)
    elif not overwrite and patiently(target.exists, target):
        raise already_exists(path)


def write_whole(path: str | Path, content: bytes, *, overwrite: bool = False) -> None:
    """Writes a file of this machine or of a store; it appears only when it is complete.

    Raises:
      UserError: if it exists and `overwrite` is false, or it cannot be written.
    """
    target = storage_path(path)
    if isinstance(target, Path):
        write_atomically(target, content, overwrite=overwrite)
        return
    check_target(path, overwrite=overwrite)
    send_file(target, content)
