"""Runs work over many items on Apache Beam: on this machine, Dataflow, Flink or Spark.

Workers may be on other machines and may do an item twice, so work must be idempotent. What it
finds goes to files, and nothing comes back through memory.
"""

import contextlib
import io
import logging
import queue
import re
import shlex
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from hypernet_jax.errors import UserError, missing_extra
from hypernet_jax.files import temporary_folder

__all__ = ["Work", "check_options", "run"]

_DIRECT = "DirectRunner"

# How the runners' reports of a failure quote an error of a worker.
_SENTENCE = re.compile(r"UserError: ([^\n]*?) \[while running")
_STEP = re.compile(r" \[while running [^\]\n]*\]")

_AGAIN = "give the same command again to do what is missing."


class _LostWorkerError(UserError):
    """A worker process ended in the middle of its work."""


class Work(Protocol):
    """What is done to each item; it is pickled and sent to the workers."""

    def setup(self) -> None:
        """Called once in each worker, before the first item."""

    def __call__(self, item: Any) -> None:
        """Does one item; doing it twice must be as good as once."""


def check_options(text: str) -> None:
    """Raises `UserError` if Apache Beam is not installed or rejects the options."""
    with _quiet():
        _pipeline_options(text)


def run(work: Work, items: Sequence[Any], *, options: str) -> None:
    """Does every item; returns when all are done.

    Args:
      work: what to do with an item.
      items: small values, such as numbers: they are part of the pipeline's description.
      options: of the pipeline, as on a command line; "" runs it in this process.

    Raises:
      UserError: what `work` raised, or a sentence for a failure of the runner. Other items may be
        done or not.
    """
    with _quiet():
        parsed = _pipeline_options(options)
    if not _is_direct(parsed):  # its log says where the job is
        _run_pipeline(work, items, parsed, None)
        return
    with _quiet(), temporary_folder() as folder:
        failure = folder / "failure"
        _until_a_worker_is_lost(lambda: _run_pipeline(work, items, parsed, failure))
        if failure.exists():
            raise UserError(failure.read_bytes().decode("utf-8", "surrogateescape"))


def _run_pipeline(work: Work, items: Sequence[Any], options: Any, failure: Path | None) -> None:
    """Runs a pipeline until its end.

    Args:
      failure: a file of this machine for the sentence of a `UserError`. Beam's own workers print
        a traceback of what is raised; with this file they stop quietly instead. None where
        workers are on other machines, whose runners do an item again that raises.
    """
    import apache_beam

    def do(action: Callable[..., None], *item: Any) -> None:
        if failure is None:
            action(*item)
        elif not failure.exists():
            try:
                action(*item)
            except UserError as error:
                failure.write_bytes(str(error).encode("utf-8", "surrogateescape"))

    class Do(apache_beam.DoFn):
        def setup(self) -> None:
            do(work.setup)

        def process(self, item: Any) -> None:
            do(work, item)

    # What the runners and their services raise has no common class.
    try:
        pipeline = apache_beam.Pipeline(options=options)
        # Without Reshuffle the items stay together in one worker.
        _ = (
            pipeline
            | "items" >> apache_beam.Create(list(items))
            | "spread" >> apache_beam.Reshuffle()
            | "work" >> apache_beam.ParDo(Do())
        )
        result = pipeline.run()
        state = result.wait_until_finish()
    except Exception as error:
        raise _failure(error) from None
    if state != "DONE":
        raise UserError(f"The pipeline ended in the state {state}; {_AGAIN}")


def _is_direct(options: Any) -> bool:
    from apache_beam.options.pipeline_options import StandardOptions

    return (options.view_as(StandardOptions).runner or _DIRECT) == _DIRECT


def _pipeline_options(text: str) -> Any:
    try:
        import apache_beam  # noqa: F401
        from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
        from apache_beam.runners.runner import create_runner
    except ModuleNotFoundError as error:
        raise (missing_extra(error) or error) from None
    try:
        given = shlex.split(text)
    except ValueError as error:
        raise UserError(f"The --beam-options {text!r} cannot be read ({error}).") from None
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            options = PipelineOptions(given)
            known = options.get_all_options(drop_default=True)
            every = options.get_all_options(drop_default=True, retain_unknown_options=True)
            create_runner(options.view_as(StandardOptions).runner or _DIRECT)
    # argparse writes what is wrong and exits.
    except SystemExit:
        reason = (said.getvalue().strip().splitlines() or ["unknown"])[-1].partition("error: ")[2]
        raise UserError(f"Apache Beam rejects --beam-options {text!r} ({reason}).") from None
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UserError(f"Apache Beam rejects --beam-options {text!r} ({reason}).") from None
    if not _is_direct(options):
        return options  # the runner's own service may know more options
    unknown = [name for name in every if name not in known]
    if unknown:
        raise UserError(
            f"Apache Beam has no option --{unknown[0]}; correct --beam-options {text!r}."
        )
    return PipelineOptions(["--default_sdk_harness_log_level=CRITICAL", *given])


def _failure(error: Exception) -> UserError:
    """The sentence for a failure of the runner."""
    text = str(error)
    found = _SENTENCE.search(text)
    if found:
        return UserError(found[1])
    lines = [line for line in _STEP.sub("", text).strip().splitlines() if line.strip()]
    reason = ": ".join([type(error).__name__, *(line.strip()[:300] for line in lines[-1:])])
    return UserError(f"The pipeline failed ({reason.rstrip('.')}); {_AGAIN}")


def _until_a_worker_is_lost(action: Callable[[], None]) -> None:
    """Returns or raises as the action does; raises, too, if a worker process of Beam's is lost.

    The DirectRunner waits for ever for a worker process that was killed. The thread that watches
    the process raises, which only the hook of threads sees.
    """
    ends: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def act() -> None:
        try:
            action()
            ends.put(None)
        except BaseException as error:  # re-raised in the caller's thread
            ends.put(error)

    def lost(args: Any) -> None:
        name = getattr(args.thread, "name", "")
        if name == "run_worker":
            ends.put(
                _LostWorkerError(f"A worker of the pipeline was lost ({args.exc_value}); {_AGAIN}")
            )
        elif name != "beam_control_read":  # what was listening to the lost worker
            before(args)

    before, threading.excepthook = threading.excepthook, lost
    threading.Thread(target=act, name="pipeline", daemon=True).start()
    end = ends.get()
    if not isinstance(end, _LostWorkerError):  # else Beam's threads go on raising
        threading.excepthook = before
    if end is not None:
        raise end


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Beam logs a traceback of what ends in a sentence here, and hints when it is imported."""
    logger = logging.getLogger("apache_beam")
    root = logging.getLogger()
    before = logger.level, root.level
    if before[0] == logging.NOTSET:
        logger.setLevel(logging.CRITICAL)
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before[0])
        root.setLevel(before[1])
