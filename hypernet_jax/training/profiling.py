"""Traces of some training steps."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from hypernet_jax.errors import UserError

__all__ = ["Profile", "parse_steps"]


def parse_steps(text: str) -> tuple[int, int]:
    """The first and the last step of "START:STOP", from 1.

    Raises:
      UserError: for anything else.
    """
    first, separator, last = text.partition(":")
    if not separator or not first.isdecimal() or not last.isdecimal():
        raise UserError(f"The steps to profile, {text!r}, are not START:STOP, such as 100:110.")
    if not 1 <= int(first) <= int(last):
        raise UserError(f"The steps to profile, {text}, must be in order, from 1.")
    return int(first), int(last)


class Profile:
    """Writes a trace of some steps that xprof and Perfetto open.

    Args:
      folder: of this machine, for the trace.
      steps: first and last step, from 1; None for no trace. A run that resumes between them is
        traced from there.
    """

    def __init__(self, folder: Path, steps: tuple[int, int] | None):
        self._folder, self._steps = folder, steps
        self._running = self._begun = False

    def __enter__(self) -> "Profile":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stop()

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around the dispatch of one step, with its number."""
        if self._steps is not None and self._steps[0] <= number and not self._begun:
            jax.profiler.start_trace(str(self._folder))
            self._running = self._begun = True
        with jax.profiler.StepTraceAnnotation("train", step_num=number):
            yield

    def after(self, number: int, result: Any) -> None:
        """Ends the trace after its last step, once the step's result is computed."""
        if self._running and self._steps is not None and number >= self._steps[1]:
            jax.block_until_ready(result)
            self._stop()

    def _stop(self) -> None:
        if self._running:
            jax.profiler.stop_trace()
        self._running = False
