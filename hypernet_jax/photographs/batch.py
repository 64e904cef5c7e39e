"""Many files in one run: which output belongs to which input, and what became of each."""

import dataclasses
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from hypernet_jax.errors import UserError
from hypernet_jax.files import ensure_folder
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

__all__ = ["Job", "Outcome", "plan", "run"]


@dataclasses.dataclass(frozen=True)
class Job:
    """One input and where its result goes.

    Attributes:
      source, output: files.
      mask: of the input, where its folder holds one: NAME.mask.png.
      level: of its own; that of the options if None.
    """

    source: Path
    output: Path
    mask: Path | None = None
    level: LevelRequest | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one job: `restored`, or the sentence in `failed`, or neither if skipped."""

    job: Job
    restored: Restored | None = None
    failed: str | None = None


def plan(
    inputs: Iterable[Path],
    output: Path,
    suffix: Callable[[Path], str],
    *,
    compare: bool = False,
) -> list[Job]:
    """Outputs in the folder `output`, each below it where its input lies below the folder given.

    Args:
      inputs: files and folders.
      output: the folder to write to; its own files are not taken for inputs.
      suffix: the ending of an input's output.
      compare: each output has a comparison beside it, which needs a name of its own, too.

    Inputs that would get the same name keep their ending in it: a.jpg and a.png
    become a.jpg.png and a.png.png. Of a folder, the file a.mask.png is the mask of a.jpg and no
    photograph, where both are there.

    Raises:
      UserError: for a folder without images, or two files of the same name.
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
    # What is named twice, as overlapping patterns do, is restored once.
    by_name = {os.path.normpath(place[0].absolute()): place for place in reversed(places)}
    places = list(by_name.values())[::-1]
    wanted = [place.with_suffix(suffix(source)) for source, place in places]
    # Letter case does not part names everywhere.
    folded = [str(name.with_suffix("") if compare else name).casefold() for name in wanted]
    # Input folders that results could grow: those that the output folder holds.
    below_output = [
        folder for path in folders if output.resolve() in (folder := path.resolve()).parents
    ]
    jobs: list[Job] = []
    taken: set[Path] = set()
    for (source, place), name, key in zip(places, wanted, folded, strict=True):
        if folded.count(key) > 1:
            name = place.with_name(place.name + suffix(source))
        for path in [output / name, *([comparison_name(output / name)] if compare else [])]:
            if any(folder in path.resolve().parents for folder in below_output):
                raise UserError(
                    f"The output {path} would lie among the photographs of {path.parent}, and be "
                    "taken for one of them the next time; choose another folder."
                )
            if path in taken:
                raise UserError(f"Two inputs would both be written to {path}; rename one.")
            taken.add(path)
        mask = mask_beside(source)
        jobs.append(Job(source, output / name, mask if mask in masks else None))
    return jobs


def _run_one(restorer: Restorer, job: Job, options: Options, skip_existing: bool) -> Outcome:
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
        return Outcome(job, failed=str(error))
    except MemoryError:
        return Outcome(job, failed=f"There is not enough memory for {job.source}.")
    except OSError as error:
        return Outcome(job, failed=f"{error.strerror or error}: {error.filename or job.source}.")
    # Whatever no one foresaw in one file must not keep the others from being restored.
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
    """Restores every file, some at a time; one that fails does not stop the others.

    Args:
      restorer: shared by the workers.
      jobs: inputs and outputs.
      options: what to do with each.
      report: called in the caller's thread as each file is done.
      workers: files at a time: some are read and written while one is restored.
      skip_existing: leave out jobs whose output is there.

    Returns:
      The outcomes in the order of `jobs`.
    """
    outcomes: dict[Job, Outcome] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        waiting = [pool.submit(_run_one, restorer, job, options, skip_existing) for job in jobs]
        for done in as_completed(waiting):
            outcome = done.result()
            outcomes[outcome.job] = outcome
            report(outcome)
    finally:
        # After an interrupt the files not begun are not begun.
        pool.shutdown(cancel_futures=True)
    return [outcomes[job] for job in jobs]
