"""Where the numbers of a run go: metrics.jsonl and TensorBoard."""

import contextlib
import itertools
import json
import os
import time
from pathlib import Path

import tensorboardX

from hypernet_jax.files import first_free

__all__ = ["Meter", "MetricsWriter"]


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

    def __init__(self, workdir: Path, *, resume_step: int):
        path = workdir / "metrics.jsonl"
        if path.exists() and not resume_step:
            path.rename(first_free(workdir / f"metrics-{n}.jsonl" for n in itertools.count(1)))
        elif path.exists():
            kept = [
                line
                for line in path.read_text(errors="replace").splitlines()
                if _step(line) <= resume_step
            ]
            beside = path.with_suffix(".partial")
            beside.write_text("".join(f"{line}\n" for line in kept))
            os.replace(beside, path)
        self._file = path.open("a")
        self._board = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"),
            purge_step=resume_step + 1,
            # A killed run goes on after its last checkpoint and tells no step before that again.
            flush_secs=1,
            # Names are made of the second: a start must not replace what another one wrote.
            filename_suffix=f".from-{resume_step}",
        )

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *exception) -> None:
        self._file.close()
        self._board.close()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Writes scalars of one step to both places."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)


def _step(line: str) -> float:
    """The step of a line; a line that a kill cut short counts as later than all."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
