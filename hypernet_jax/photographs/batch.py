"""Restores many files in one run: plans the outputs and collects the outcomes."""

import collections
import dataclasses
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path, PurePath
from typing import TypeVar

from hypernet_jax.errors import UserError
from hypernet_jax.files import ensure_folder, identity
from hypernet_jax.images.folders import find_images
from hypernet_jax.inference.restorer import Restorer
from hypernet_jax.levels import LevelRequest
from hypernet_jax.photographs.level_maps import mask_beside, without_masks
from hypernet_jax.photographs.restoring import (
    Options,
    Restored,
    comparison_name,
    exists_already,
    restore_file,
)

__all__ = [
    "Job",
    "Outcome",
    "named_once",
    "naming",
    "output_names",
    "plan",
    "refuse_each_other",
    "run",
    "run_one",
]

P = TypeVar("P", bound=PurePath)
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Job:
    """One input and its output.

    Attributes:
      source, output: files.
      mask: the mask beside the input, NAME.mask.png, if there is one.
      level: its own level; None: that of the options.
    """

    source: Path
    output: Path
    mask: Path | None = None
    level: LevelRequest | None = None

    def written(self, *, compare: bool) -> list[Path]:
        """The files that the job writes; with `compare` also the comparison."""
        return [self.output, *([comparison_name(self.output)] if compare else [])]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a job: `restored`, or an error sentence in `failed`, or neither if skipped."""

    job: Job
    restored: Restored | None = None
    failed: str | None = None


def output_names(places: Sequence[P], suffixes: Sequence[str], *, compare: bool = False) -> list[P]:
    """Names of the outputs, in subfolders as the inputs.

    Args:
      places: the inputs, relative to their folder.
      suffixes: of their outputs.
      compare: each output has a comparison beside it, which also needs a unique name.
    """
    wanted = [place.with_suffix(suffix) for place, suffix in zip(places, suffixes, strict=True)]
    # Some file systems ignore letter case.
    folded = [str(name.with_suffix("") if compare else name).casefold() for name in wanted]
    counts = collections.Counter(folded)
    return [
        name if counts[key] == 1 else place.with_name(place.name + suffix)
        for place, suffix, name, key in zip(places, suffixes, wanted, folded, strict=True)
    ]


def plan(
    inputs: Iterable[Path],
    output: Path,
    suffix: Callable[[Path], str],
    *,
    compare: bool = False,
) -> list[Job]:
    """Plans outputs in the folder `output`, with the subfolders of the inputs.

    Args:
      inputs: files and folders.
      output: the folder to write to; its own files are not taken as inputs.
      suffix: returns the suffix of an input's output.
      compare: each output has a comparison beside it, which also needs a unique name.

    Inputs that would get the same name keep their suffix in it: a.jpg and a.png
    become a.jpg.png and a.png.png. If a folder holds a.jpg and a.mask.png, the latter is the
    mask of the former.

    Raises:
      UserError: for a folder without images, or two outputs of the same name.
    """
    inputs = list(inputs)
    folders = [path for path in inputs if path.is_dir()]
    places: list[tuple[Path, Path]] = []
    masks: set[Path] = set()
    for path in inputs:
        if not path.is_dir():
            places.append((path, Path(path.name)))
            continue
        found, own = without_masks(find_images(path, leave_out=output))
        masks |= own
        below = Path(path.resolve().name) if len(folders) > 1 else Path()
        places += [(source, below / source.relative_to(path)) for source in found]
    places = named_once(places, lambda place: place[0])
    names = output_names(
        [place for _, place in places], [suffix(source) for source, _ in places], compare=compare
    )
    # Input folders inside the output folder: results must not be added to them.
    below_output = [
        folder for path in folders if output.resolve() in (folder := path.resolve()).parents
    ]
    jobs: list[Job] = []
    taken: set[Path] = set()
    for (source, _), name in zip(places, names, strict=True):
        job = Job(source, output / name)
        for path in job.written(compare=compare):
            if any(folder in path.resolve().parents for folder in below_output):
                raise UserError(
                    f"The output {path} would lie among the photographs of {path.parent}, and the "
                    "next run would take it for one of them; choose another folder."
                )
            if path in taken:
                raise UserError(f"Two inputs would both be written to {path}; rename one.")
            taken.add(path)
        mask = mask_beside(source)
        jobs.append(dataclasses.replace(job, mask=mask if mask in masks else None))
    return jobs


def named_once(items: Sequence[T], path: Callable[[T], Path]) -> list[T]:
    """The items without those whose path is named again, as by overlapping patterns."""
    by_name = {os.path.normpath(path(item).absolute()): item for item in reversed(items)}
    return list(by_name.values())[::-1]


def refuse_each_other(jobs: Sequence[Job], *, compare: bool) -> None:
    """Raises `UserError` if a job would replace the photograph of another, under any name."""
    owners = {identity(job.source): job for job in jobs}
    for job in jobs:
        for path in job.written(compare=compare):
            owner = owners.get(identity(path), job)
            if owner is not job and identity(job.source) != identity(owner.source):
                raise UserError(
                    f"The output {path} is also the input {owner.source}; choose another folder."
                )


def naming(source: PurePath, sentence: str) -> str:
    """The sentence, with the file that it is about if it does not name it."""
    return sentence if source.name in sentence else f"{source}: {sentence}"


def run_one(
    restorer: Restorer, job: Job, options: Options, *, skip_existing: bool = False
) -> Outcome:
    """Restores one file; the outcome reports what went wrong."""
    try:
        if skip_existing and exists_already(job.source, job.output):
            return Outcome(job)
        ensure_folder(job.output.parent)
        if job.mask is not None:
            options = dataclasses.replace(options, level_map=job.mask)
        if job.level is not None:
            options = dataclasses.replace(options, level=job.level)
        return Outcome(job, restored=restore_file(restorer, job.source, job.output, options))
    except UserError as error:
        return Outcome(job, failed=naming(job.source, str(error)))
    except MemoryError:
        return Outcome(job, failed=f"There is not enough memory for {job.source}.")
    except OSError as error:
        return Outcome(job, failed=f"{error.strerror or error}: {error.filename or job.source}.")
    # An unforeseen error in one file must not stop the others.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        return Outcome(job, failed=f"{job.source} cannot be restored ({reason}).")


def run(
    restorer: Restorer,
    jobs: list[Job],
    options: Options,
    report: Callable[[Outcome], None],
    *,
    workers: int = 1,
    skip_existing: bool = False,
) -> list[Outcome]:
    """Restores every file; one that fails does not stop the others.

    Args:
      restorer: shared by the workers.
      jobs: inputs and outputs.
      options: what to do with each.
      report: called in the caller's thread when a file is done.
      workers: number of files at once: some are read and written while one is restored.
      skip_existing: skip jobs whose output exists.

    Returns:
      The outcomes in the order of `jobs`.
    """
    outcomes: dict[Job, Outcome] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = [
            pool.submit(run_one, restorer, job, options, skip_existing=skip_existing)
            for job in jobs
        ]
        for done in as_completed(waiting):
            outcome = done.result()
            outcomes[outcome.job] = outcome
            report(outcome)
    finally:
        # After an interrupt no further files are started.
        pool.shutdown(cancel_futures=True)
    return [outcomes[job] for job in jobs]
