"""Paths on this machine and in stores elsewhere, such as buckets.

An address, `scheme://bucket/name`, is an `etils.epath` path, which has the methods of
`pathlib.Path`. A place that reads or writes files takes `storage_path`; one that cannot do
without local files takes `files.local_path`, which refuses addresses.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypernet_jax.errors import UserError
from hypernet_jax.files import is_address, local_path, temporary_folder, write_atomically

__all__ = ["local_copy", "register_storage", "storage_path", "write_whole"]

_schemes: set[str] = set()


def register_storage(scheme: str, path_class: type) -> None:
    """Makes `scheme://...` an address that can be read and written.

    Args:
      scheme: such as "gs".
      path_class: of such paths, with the methods of `pathlib.Path`; made from the whole address.
        Its `write_bytes` makes a file appear whole or not at all, as object stores do.
    """
    from etils import epath

    epath.register_path_cls(f"{scheme}://")(path_class)
    _schemes.add(scheme)


def storage_path(path: str | Path) -> Any:
    """The path, of this machine or of a store.

    Raises:
      UserError: for what is no path, or an address of a scheme that is not registered.
    """
    if not is_address(path) or os.fspath(path).partition(":")[0] not in _schemes:
        return local_path(path)
    from etils import epath

    return epath.Path(path)


@contextlib.contextmanager
def local_copy(path: Any) -> Iterator[Path]:
    """A file of this machine with the content of a `storage_path`; the file itself if it is one."""
    if isinstance(path, Path):
        yield path
        return
    with temporary_folder() as folder:
        copy = folder / path.name
        copy.write_bytes(path.read_bytes())
        yield copy


def write_whole(path: str | Path, content: bytes, *, overwrite: bool = False) -> None:
    """Writes a file of this machine or of a store; it appears only when it is complete.

    Raises:
      UserError: if it exists and `overwrite` is false, or it cannot be written.
    """
    target = storage_path(path)
    if isinstance(target, Path):
        write_atomically(target, content, overwrite=overwrite)
        return
    try:
        if target.exists() and not overwrite:
            raise UserError(f"The output {path} already exists; choose another name.")
        target.write_bytes(content)
    except OSError as error:
        raise UserError(f"The output {path} cannot be written ({error}).") from None
