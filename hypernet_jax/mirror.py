"""Folders of this machine, kept in a store.

A store has no rename that moves a whole folder at once. What makes a folder whole is its last
file, `whole.json`: it lists the others with their sizes, and a folder without it does not
count. A process that is killed while it writes leaves files that nobody reads.
"""

import concurrent.futures
import contextlib
import json
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypernet_jax.buckets import patiently, remove_file, send_file
from hypernet_jax.errors import UserError
from hypernet_jax.storage import at_once, names_in

__all__ = ["CheckpointMirror", "fetch_folder", "is_whole", "remove_folder", "send_folder"]

# No name of Orbax's, which has marks of its own inside a checkpoint.
_MARK = "whole.json"


class _DamagedError(UserError):
    """A folder of a store that is there, but not as it was written."""


def is_whole(folder: Any) -> bool:
    """Whether a folder of a store has all its files."""
    return patiently((folder / _MARK).is_file, folder)


def send_folder(source: Path, target: Any) -> None:
    """Writes the files below a local folder into a folder of a store, the mark last.

    Raises:
      UserError: where the store fails; then the folder there is not whole.
    """
    files = {
        path.relative_to(source).as_posix(): path for path in source.rglob("*") if path.is_file()
    }

    def send(name: str) -> None:
        send_file(target / name, files[name].read_bytes())

    at_once(send, sorted(files))
    mark = json.dumps({"files": {name: path.stat().st_size for name, path in files.items()}})
    send_file(target / _MARK, mark.encode())


def fetch_folder(source: Any, target: Path) -> None:
    """Reads a whole folder of a store into a local one, which must not exist.

    Raises:
      UserError: where the store fails, the folder is not whole, or a file has another size.
    """
    try:
        sizes = json.loads(patiently((source / _MARK).read_bytes, source))["files"]
    except (ValueError, KeyError, TypeError):
        raise _DamagedError(f"{source} is damaged: {_MARK} cannot be read.") from None

    def fetch(name: str) -> None:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)

        def copy() -> None:
            with (source / name).open("rb") as there, path.open("wb") as here:
                shutil.copyfileobj(there, here, 2**24)

        patiently(copy, source / name)
        if path.stat().st_size != sizes[name]:
            raise _DamagedError(f"{source / name} is damaged: its size has changed.")

    target.mkdir(parents=True)
    at_once(fetch, sorted(sizes))


def remove_folder(folder: Any) -> None:
    """Removes a folder of a store, the mark first: what a kill leaves of it does not count."""
    remove_file(folder / _MARK)
    patiently(lambda: folder.rmtree(missing_ok=True), folder)


class CheckpointMirror:
    """The checkpoints of a run in a store, each in a folder named by its step.

    Sending runs beside training, one checkpoint at a time. Only one run may write to a workdir.

    Args:
      workdir: of the run, in a store.
      keep: how many checkpoints stay there; those before them, and what was never whole, go.
    """

    def __init__(self, workdir: Any, *, keep: int):
        self._workdir, self._keep = workdir, keep
        self._folder = workdir / "checkpoints"
        self._pool = concurrent.futures.ThreadPoolExecutor(1)
        self._sending: concurrent.futures.Future | None = None
        self._sent: int | None = None

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, in order."""
        named = sorted(int(name) for name in names_in(self._folder) if name.isdigit())
        return [step for step in named if is_whole(self._folder / str(step))]

    def fetch_newest(self, target: Path, *, before: int | None = None) -> int | None:
        """Reads the newest checkpoint into the folder `target` by its step.

        A damaged checkpoint is skipped with a warning.

        Args:
          target: on this machine.
          before: only checkpoints of earlier steps than this count; None: all.

        Returns:
          Its step; None if there is no checkpoint.

        Raises:
          UserError: if the store fails, or all checkpoints are damaged.
        """
        steps = [step for step in self.steps() if before is None or step < before]
        for step in reversed(steps):
            try:
                fetch_folder(self._folder / str(step), target / str(step))
            except _DamagedError as error:
                warnings.warn(f"Skipped: {error}", stacklevel=3)
                shutil.rmtree(target / str(step), ignore_errors=True)
                continue
            self._sent = step
            return step
        if steps:
            raise UserError(
                f"No checkpoint in {self._folder} can be read (steps {steps}); restore the folder "
                "from a copy, or start again in another workdir."
            )
        return None

    def send(
        self, step: int, source: Path, beside: Mapping[str, bytes], ready: Callable[[], None]
    ) -> None:
        """Begins to write a checkpoint.

        Args:
          step: its step.
          source: the local folder that will hold it.
          beside: contents of files by their paths in the workdir; the checkpoint becomes whole
            only after they are written.
          ready: returns when `source` is complete.
        """
        self.wait()
        self._sending = self._pool.submit(self._send, step, source, beside, ready)

    def _send(self, step, source, beside, ready) -> None:
        ready()
        for name, content in beside.items():
            send_file(self._workdir / name, content)
        target = self._folder / str(step)
        if names_in(target):  # of a run that was killed here
            remove_folder(target)
        send_folder(source, target)
        self._sent = step
        self._remove_others(step)

    def _remove_others(self, newest: int) -> None:
        kept = set(self.steps()[-self._keep :]) | {newest}
        for name in names_in(self._folder):
            if name.isdigit() and int(name) not in kept:
                remove_folder(self._folder / name)

    def wait(self) -> None:
        """Returns when what was begun is written.

        Raises:
          UserError: if it could not be, with the step that is kept.
        """
        if self._sending is None:
            return
        sending, self._sending = self._sending, None
        try:
            sending.result()
        except UserError as error:
            kept = "none" if self._sent is None else f"that of step {self._sent}"
            raise UserError(f"{str(error).rstrip('.')}; the last checkpoint: {kept}.") from None

    def close(self) -> None:
        """Ends the thread; what it is doing is finished first."""
        with contextlib.suppress(UserError):
            self.wait()
        self._pool.shutdown()
