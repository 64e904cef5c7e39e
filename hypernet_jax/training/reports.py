"""Where the numbers of a run go: metrics.jsonl and TensorBoard."""

import json
import os
from pathlib import Path

import tensorboardX

__all__ = ["MetricsWriter"]


class MetricsWriter:
    """Appends {"step": n, name: value, ...} lines to WORKDIR/metrics.jsonl, and TensorBoard events.

    On resuming, lines after the checkpoint's step are dropped first: those
    steps are run, and logged, again.
    """

    def __init__(self, workdir: Path, *, resume_step: int):
        path = workdir / "metrics.jsonl"
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _step(line) <= resume_step]
            beside = path.with_suffix(".partial")
            beside.write_text("".join(f"{line}\n" for line in kept))
            os.replace(beside, path)
        self._file = path.open("a")
        self._board = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=resume_step + 1, write_to_disk=True
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
        return json.loads(line)["step"]
    except (ValueError, KeyError):
        return float("inf")
