"""Restores the photographs of a folder or an address on Apache Beam.

Every output is written whole, and writing it twice does no harm. What workers report goes to
files of a hidden folder in the output, which is gone when the pipeline is done.
"""

import contextlib
import dataclasses
import json
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

from hypernet_jax import beam
from hypernet_jax.buckets import patiently, remove_file, send_file
from hypernet_jax.compilation_cache import keep_compiled_programs
from hypernet_jax.errors import UserError
from hypernet_jax.files import already_exists, ensure_folder, temporary_folder
from hypernet_jax.images.folders import images_below
from hypernet_jax.inference.restorer import Restorer
from hypernet_jax.levels import LevelSpace
from hypernet_jax.photographs import batch
from hypernet_jax.photographs.batch import Job, Outcome
from hypernet_jax.photographs.level_maps import mask_beside, without_masks
from hypernet_jax.photographs.restoring import Options, Restored
from hypernet_jax.storage import at_once, files_below, local_copy, storage_path, write_whole
from hypernet_jax.weights import pretrained_names

__all__ = ["Loading", "plan_archive", "restore_archive"]

# Photographs that are done together, one after the other.
_TOGETHER = 16

_WORKING = ".restore-"
# In the hidden folder: places of all jobs, in groups; weights that only the launcher has.
_JOBS = "jobs.json"
_WEIGHTS = "weights.safetensors"


@dataclasses.dataclass(frozen=True)
class Loading:
    """How a worker loads its restorer.

    Attributes:
      weights: shipped weights by name, a file of the launcher's machine, or an address.
      memory, backend, self_ensemble: as in `Restorer.from_pretrained`.
    """

    weights: str
    memory: float
    backend: str
    self_ensemble: bool = False


def plan_archive(source: Any, output: Any, suffix: Callable[[Any], str]) -> list[Job]:
    """Plans outputs as `batch.plan` does, for a folder of this machine or a store each.

    Args:
      source, output: as `storage_path` returns them.
      suffix: returns the suffix of an input's output.

    Raises:
      UserError: if there is no image, or outputs would lie among the photographs.
    """
    if isinstance(source, Path) and isinstance(output, Path):
        return batch.plan([source], output, suffix)
    if f"{output}/".startswith(f"{source}/") or f"{source}/".startswith(f"{output}/"):
        raise UserError(
            f"Of the input {source} and the output {output} one holds the other, and the next run "
            "would take results for photographs; choose another output."
        )
    names = [PurePosixPath(name) for name in images_below(source)]
    photographs, masks = without_masks(names)
    outputs = batch.output_names(photographs, [suffix(name) for name in photographs])
    jobs = []
    for name, output_name in zip(photographs, outputs, strict=True):
        mask = mask_beside(name)
        own = source / str(mask) if mask in masks else None
        jobs.append(Job(source / str(name), output / str(output_name), own))
    if len({job.output for job in jobs}) < len(jobs):
        raise UserError(f"Two images of {source} would be written to one output; rename one.")
    return jobs


def restore_archive(
    jobs: Sequence[Job],
    options: Options,
    *,
    output: Any,
    loading: Loading,
    space: LevelSpace,
    beam_options: str,
    skip_existing: bool = False,
) -> list[Outcome]:
    """Restores every photograph; one that cannot be restored does not stop the others.

    Args:
      jobs: inputs and outputs.
      options: what to do with each.
      output: the folder of all outputs.
      loading: of the restorer in each worker.
      space: of its levels.
      beam_options: of the pipeline, as on a command line.
      skip_existing: skip jobs whose output exists.

    Returns:
      The outcomes in the order of `jobs`.

    Raises:
      UserError: if a store or the runner fails. What was restored until then is in the output.
    """
    outcomes: dict[Job, Outcome] = {}
    there = {output / name for name in files_below(output)}
    for job in jobs:
        if job.output in there and skip_existing:
            outcomes[job] = Outcome(job)
        elif job.output in there and not options.overwrite:
            outcomes[job] = Outcome(job, failed=str(already_exists(job.output)))
    waiting = [job for job in jobs if job not in outcomes]
    if waiting:
        done = _run(waiting, options, output, loading, space, beam_options)
        outcomes |= {outcome.job: outcome for outcome in done}
    return [outcomes[job] for job in jobs]


def _run(
    jobs: list[Job],
    options: Options,
    output: Any,
    loading: Loading,
    space: LevelSpace,
    beam_options: str,
) -> list[Outcome]:
    groups = [jobs[first : first + _TOGETHER] for first in range(0, len(jobs), _TOGETHER)]
    with _working_folder(output) as working:
        content = [[_plain(job) for job in group] for group in groups]
        write_whole(working / _JOBS, json.dumps(content).encode())
        # By their names, shipped weights are everywhere.
        if loading.weights not in pretrained_names() and Path(loading.weights).is_file():
            write_whole(working / _WEIGHTS, Path(loading.weights).read_bytes())
            loading = dataclasses.replace(loading, weights=str(working / _WEIGHTS))
        beam.run(
            RestoreGroup(str(working), options, loading), range(len(groups)), options=beam_options
        )
        reported = at_once(lambda index: _read(working / _outcomes_of(index)), range(len(groups)))
    return [
        _outcome(job, row, space)
        for group, rows in zip(groups, reported, strict=True)
        for job, row in zip(group, rows, strict=True)
    ]


@contextlib.contextmanager
def _working_folder(output: Any) -> Iterator[Any]:
    """A hidden folder in the output, which is gone afterwards."""
    # Its own name: a pipeline that was left to itself may still be writing.
    if isinstance(output, Path):
        with temporary_folder(ensure_folder(output), prefix=_WORKING) as working:
            yield working
        return
    working = output / f"{_WORKING}{uuid.uuid4().hex[:12]}"
    try:
        yield working
    finally:
        at_once(lambda name: remove_file(working / name), files_below(working))


def _outcomes_of(index: int) -> str:
    return f"outcomes-{index:06d}.json"


def _read(path: Any) -> Any:
    return json.loads(patiently(path.read_bytes, path))


def _plain(job: Job) -> list[str | None]:
    return [str(job.source), str(job.output), None if job.mask is None else str(job.mask)]


def _job(source: str, output: str, mask: str | None) -> Job:
    return Job(
        storage_path(source), storage_path(output), None if mask is None else storage_path(mask)
    )


def _row(outcome: Outcome) -> dict[str, Any]:
    """The report of a job, for JSON."""
    if outcome.restored is None:
        return {"failed": outcome.failed}
    return {
        "size": outcome.restored.size,
        "level": outcome.restored.level.plain(),
        "estimate": outcome.restored.estimate,
        "notes": outcome.restored.notes,
    }


def _outcome(job: Job, row: dict[str, Any], space: LevelSpace) -> Outcome:
    if "failed" in row:
        return Outcome(job, failed=row["failed"])
    width, height = row["size"]
    level = space.parse(row["level"])
    return Outcome(job, Restored((width, height), level, row["estimate"], tuple(row["notes"])))


class RestoreGroup:
    """The `beam.Work` that restores some photographs and writes what became of them.

    Args:
      working: folder or address with the list of jobs.
      options: what to do with each.
      loading: of the restorer.
    """

    def __init__(self, working: str, options: Options, loading: Loading):
        # Existing outputs are not among the jobs; one that is there is of an earlier attempt.
        self._options = dataclasses.replace(options, overwrite=True)
        self._working, self._loading = working, loading

    def setup(self) -> None:
        """Loads the restorer and the list of jobs."""
        # Pillow's warnings about unusual files are not errors.
        warnings.filterwarnings("ignore", module="PIL")
        keep_compiled_programs()
        loading = self._loading
        self._restorer = Restorer.from_pretrained(
            loading.weights,
            memory=loading.memory,
            backend=loading.backend,
            self_ensemble=loading.self_ensemble,
        )
        self._groups = _read(storage_path(self._working) / _JOBS)

    def __call__(self, item: int) -> None:
        """Restores the group of an index.

        Raises:
          UserError: if a photograph cannot be fetched or sent.
        """
        rows = [_row(self._restored(_job(*places))) for places in self._groups[item]]
        path = storage_path(self._working) / _outcomes_of(item)
        write_whole(path, json.dumps(rows).encode(), overwrite=True)

    def _restored(self, job: Job) -> Outcome:
        """Restores a photograph by way of files of this machine."""
        with ExitStack() as stack:
            source = stack.enter_context(local_copy(job.source))
            mask = None if job.mask is None else stack.enter_context(local_copy(job.mask))
            output = job.output
            if not isinstance(output, Path):
                output = stack.enter_context(temporary_folder()) / output.name
            outcome = batch.run_one(self._restorer, Job(source, output, mask), self._options)
            if outcome.restored is not None and output != job.output:
                send_file(job.output, output.read_bytes())
            failed = outcome.failed
            for local, place in ((source, job.source), (output, job.output), (mask, job.mask)):
                if failed is not None and local is not None:
                    failed = failed.replace(str(local), str(place))
            return Outcome(job, outcome.restored, failed)
