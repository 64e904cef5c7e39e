"""Where the numbers of a run go: metrics.jsonl and TensorBoard.

A store cannot append to a file, and to write metrics.jsonl anew for each line would send the run's
lines over and over. There, lines and events are kept on this machine and sent with each checkpoint
as files of their own: every line is sent once, and none is lost that the checkpoint counts on.
"""

import contextlib
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import tensorboardX

from hypernet_jax.buckets import patiently, remove_file, send_file
from hypernet_jax.errors import UserError
from hypernet_jax.files import first_free, temporary_folder
from hypernet_jax.storage import names_in

__all__ = ["Meter", "MetricsWriter", "SegmentWriter", "metrics_of", "metrics_writer"]


class Meter:
    """Rates since it was made: steps, images, and the share of time spent waiting for data."""

    def __init__(self):
        self._start = time.perf_counter()
        self._steps = self._images = 0
        self._waited = 0.0

    @contextlib.contextmanager
    def waiting(self):
        """Counts the time inside as waiting for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    @contextlib.contextmanager
    def paused(self):
        """Leaves the time inside out."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def count(self, *, images: int) -> None:
        """Counts one step that restored so many images."""
        self._steps += 1
        self._images += images

    def rates(self) -> dict[str, float]:
        """images_per_second, steps_per_second and data_wait, a fraction of the time."""
        elapsed = time.perf_counter() - self._start
        return {
            "images_per_second": self._images / elapsed,
            "steps_per_second": self._steps / elapsed,
            "data_wait": self._waited / elapsed,
        }


class MetricsWriter:
    """Appends {"step": n, name: value, ...} lines to WORKDIR/metrics.jsonl, and TensorBoard events.

    On resuming, lines after the checkpoint's step are dropped first: those
    steps are run, and logged, again. Where a run starts anew beside the lines of
    another, these are kept in metrics-1.jsonl, or -2 and so on.
    """

    def __init__(self, workdir: Path, *, resume_step: int | None):
        path, done = workdir / "metrics.jsonl", resume_step or 0
        if path.exists() and resume_step is None:
            path.rename(first_free(workdir / f"metrics-{n}.jsonl" for n in itertools.count(1)))
        elif path.exists():
            kept = [
                line
                for line in path.read_text(errors="replace").splitlines()
                if _step(line) <= done
            ]
            beside = path.with_suffix(".partial")
            beside.write_text("".join(f"{line}\n" for line in kept))
            os.replace(beside, path)
        self._file = path.open("a")
        self._board = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"),
            purge_step=done + 1,
            # A killed run resumes after its last checkpoint and logs no earlier step again.
            flush_secs=1,
            # Names are made of the second: a start must not replace what another one wrote.
            filename_suffix=f".from-{done}",
        )

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()
        self._board.close()

    def take(self, step: int) -> dict[str, bytes]:
        """Nothing is left to be written with the checkpoint of a step."""
        del step
        return {}

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes scalars of one step to both places."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)


class SegmentWriter:
    """As `MetricsWriter`, in a store: WORKDIR/metrics/STEP.jsonl and WORKDIR/tensorboard/.

    Each file has the lines, or the events, that came after the checkpoint before; STEP is that of
    the checkpoint that it was sent with. What has not been sent when the run fails is sent as it
    ends. On resuming, files of later steps are removed: those steps are logged again. Where a run
    starts anew, the files of another are moved to metrics-1/, or -2 and so on.
    """

    def __init__(self, workdir: Any, *, resume_step: int | None):
        done = -1 if resume_step is None else resume_step
        self._workdir = workdir
        self._resumed = max(done, 0)
        self._step = max(done, 0)
        self._lines: list[str] = []
        self._board: tensorboardX.SummaryWriter | None = None
        later = [name for name in names_in(workdir / "metrics") if _file_step(name) > done]
        if resume_step is None and later:
            self._move(later)
        for name in later:
            remove_file(workdir / "metrics" / name)
        self._stack = contextlib.ExitStack()
        self._scratch = self._stack.enter_context(temporary_folder())

    def _move(self, names: list[str]) -> None:
        """Copies files of metrics/ to a folder that is free."""
        free = (self._workdir / f"metrics-{n}" for n in itertools.count(1))
        folder = next(folder for folder in free if not names_in(folder))
        for name in names:
            source = self._workdir / "metrics" / name
            send_file(folder / name, patiently(source.read_bytes, source))

    def __enter__(self) -> "SegmentWriter":
        return self

    def __exit__(self, *exception) -> None:
        with self._stack, contextlib.suppress(UserError):
            for name, content in self.take(self._step).items():
                send_file(self._workdir / name, content)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Keeps scalars of one step until they are taken."""
        self._step = step
        self._lines.append(json.dumps({"step": step, **values}) + "\n")
        if self._board is None:
            self._board = tensorboardX.SummaryWriter(
                str(self._scratch),
                purge_step=self._resumed + 1,
                filename_suffix=f".from-{step:09d}",
            )
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def take(self, step: int) -> dict[str, bytes]:
        """What was written since the last time, as contents of files by their paths."""
        if not self._lines or self._board is None:
            return {}
        taken = {f"metrics/{step:09d}.jsonl": "".join(self._lines).encode()}
        self._lines = []
        self._board.close()
        self._board = None
        self._resumed = step
        for events in sorted(self._scratch.iterdir()):
            taken[f"tensorboard/{events.name}"] = events.read_bytes()
            events.unlink()
        return taken


def metrics_writer(workdir: Any, *, resume_step: int | None) -> MetricsWriter | SegmentWriter:
    """The writer for a workdir of this machine or of a store, a `storage_path`.

    Args:
      workdir: of the run.
      resume_step: of the checkpoint that the run goes on from; None for a new run.
    """
    if isinstance(workdir, Path):
        return MetricsWriter(workdir, resume_step=resume_step)
    return SegmentWriter(workdir, resume_step=resume_step)


def metrics_of(line: str) -> dict[str, Any]:
    """The values of a line of metrics.jsonl by name; none of one that a kill cut short."""
    try:
        values = json.loads(line)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _file_step(name: str) -> float:
    """The step in the name of a file of metrics; before all others for a foreign name."""
    stem = name.removesuffix(".jsonl")
    return float(stem) if stem.isdigit() else float("-inf")


def _step(line: str) -> float:
    """The step of a line; a line that a kill cut short counts as later than all."""
    try:
        return float(metrics_of(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
