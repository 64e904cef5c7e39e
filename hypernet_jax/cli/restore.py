"""`hypernet-jax restore`: restores image files and folders."""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hypernet_jax import files
from hypernet_jax.cli.archives import check_archive, is_archive, run_archive
from hypernet_jax.cli.combinations import check_combinations
from hypernet_jax.cli.interrupts import stopping_at_once
from hypernet_jax.cli.words import counted
from hypernet_jax.compilation_cache import keep_compiled_programs
from hypernet_jax.errors import UserError
from hypernet_jax.files import (
    local_path,
    refuse_inputs,
    temporary_folder,
    write_atomically,
)
from hypernet_jax.images.opening import failures_as_sentences
from hypernet_jax.images.reading import read_photograph
from hypernet_jax.images.writing import Encoding, format_of, is_writable, suffix_of
from hypernet_jax.inference.requests import Estimator
from hypernet_jax.inference.restorer import Restorer
from hypernet_jax.levels import AUTO, LevelRequest
from hypernet_jax.photographs import batch
from hypernet_jax.photographs.level_maps import mask_files, parse_masks
from hypernet_jax.photographs.level_tables import place, read_levels
from hypernet_jax.photographs.restoring import (
    Options,
    Restored,
    check_output,
    exists_already,
    restore_file,
)
from hypernet_jax.photographs.sequences import level_of_frames
from hypernet_jax.photographs.sheets import sweep
from hypernet_jax.storage import made_place
from hypernet_jax.tasks import DEFAULT_TASK, Task, get_task
from hypernet_jax.version import __version__
from hypernet_jax.weights import check_shipped, shipped_tasks

__all__ = ["load_restorer", "restore"]

# Stands for standard input or output.
_PIPE = "-"


def load_restorer(
    task: str | None,
    weights: str | None,
    *,
    memory: float,
    backend: str = "auto",
    self_ensemble: bool = False,
) -> Restorer:
    """The restorer for --task and --weights."""
    if task is None and weights is None and DEFAULT_TASK in shipped_tasks():
        task = DEFAULT_TASK
    if task is None and weights is None:
        raise UserError(f"Give --task, one of {', '.join(shipped_tasks())}, or --weights FILE.")
    if task is not None:
        if weights is None:
            check_shipped(task)
        else:
            get_task(task)
    restorer = Restorer.from_pretrained(
        weights or task,  # type: ignore[arg-type]
        memory=memory,
        backend=backend,
        self_ensemble=self_ensemble,
    )
    found = restorer.model.task.name
    if task not in (None, found):
        raise UserError(f"The weights {weights} are for {found}, not for {task}.")
    return restorer


def _backend(args: argparse.Namespace) -> str:
    if args.provider is None:
        return args.backend
    if args.backend not in (AUTO, "onnxruntime"):
        raise UserError(f"--provider is for the backend onnxruntime, not for {args.backend}.")
    return f"onnxruntime:{args.provider}"


def _level(args: argparse.Namespace, task: Task) -> LevelRequest:
    flag, other = ("scale", "level") if task.enlarges else ("level", "scale")
    if getattr(args, other) is not None:
        raise UserError(f"The task {task.name} takes --{flag}, not --{other}.")
    given = getattr(args, flag)
    if given is None:
        # A level of several parts is hard to guess, so it is estimated by default.
        several = len(task.space) > 1 and task.estimate is not None
        given = AUTO if several and task.space.only is None else task.space.only
    if given is None:
        auto = ", or auto" if task.estimate is not None else ""
        raise UserError(f"Give --{flag}: {task.space.with_article()}{auto}.")
    try:
        return task.space.request(given)
    except UserError as error:
        if args.task is None and args.weights is None:
            others = [name for name in shipped_tasks() if name != task.name]
            raise UserError(
                f"{str(error).rstrip('.')}; or name the task of this level with --task: "
                f"{', '.join(others)}."
            ) from None
        raise


def _estimator(args: argparse.Namespace, task: Task) -> Estimator | None:
    if args.estimator is None:
        return None
    if args.level != AUTO:
        raise UserError("--estimator needs --level auto; give both.")
    from hypernet_jax.interchange.level_estimator import load_level_estimator

    estimator = load_level_estimator(args.estimator)
    if estimator.task != task.name:
        raise UserError(
            f"The estimator {args.estimator} is for {estimator.task}, not for {task.name}."
        )
    return estimator.estimate


@contextlib.contextmanager
def _piped(args: argparse.Namespace) -> Iterator[argparse.Namespace]:
    """The arguments, with temporary files in place of "-" and of pipes with names."""
    piped = [image for image in args.images if image == _PIPE or Path(image).is_fifo()]
    if not piped and args.output != _PIPE:
        yield args
        return
    if len(args.images) > 1:
        raise UserError(
            "A pipe, or - for standard input or output, takes one image; give files and a folder."
        )
    if args.compare:
        raise UserError(
            "--compare writes a second file beside the output; leave it out with pipes and -."
        )
    output = Path(args.output)
    names_file = args.output == _PIPE or (output.suffix and not output.is_dir())
    standard = piped == [_PIPE]
    shown = "standard input" if standard else "".join(piped)
    if piped and not names_file:
        raise UserError(f"An image from {shown} needs a file as output; give its name.")
    if standard and sys.stdin is None:
        raise UserError("Standard input is closed; give an image file instead of -.")
    if args.output == _PIPE and sys.stdout is None:
        raise UserError("Standard output is closed; give an output file instead of -.")
    if args.output == _PIPE and sys.stdout.isatty():
        raise UserError("A terminal cannot show the image; send the output to a file or program.")
    with temporary_folder() as folder:
        changes: dict[str, Any] = {}
        if piped:
            source = Path(folder, "standard-input")
            with failures_as_sentences(shown):
                content = sys.stdin.buffer.read() if standard else Path(shown).read_bytes()
            source.write_bytes(content)
            changes["images"] = [str(source)]
        if args.output == _PIPE:
            if args.format == "same" and piped:
                raise UserError(f"The format of {shown} is not kept; name one with --format.")
            suffix = suffix_of(args.format or "png", Path(args.images[0]))
            output = Path(folder, f"standard-output{suffix}")
            changes |= {"output": str(output), "format": None}
        messages = io.StringIO()
        names = {folder / "standard-input": shown, output: "standard output"}
        if args.output != _PIPE:
            names.pop(output)
        try:
            with contextlib.redirect_stdout(messages):
                yield argparse.Namespace(**(vars(args) | changes), piped=names)
        except UserError as error:
            raise UserError(_renamed(str(error), names)) from None
        if args.output == _PIPE:
            sys.stdout.buffer.write(output.read_bytes())
            sys.stdout.buffer.flush()
        to = sys.stderr if args.output == _PIPE else sys.stdout
        print(_renamed(messages.getvalue(), names), end="", file=to)


def _renamed(text: str, names: dict[Path, str]) -> str:
    for path, name in names.items():
        text = text.replace(str(path), name)
    return text


def _jobs(args: argparse.Namespace) -> list[batch.Job]:
    inputs, output = [local_path(image) for image in args.images], local_path(args.output)
    is_folder = output.is_dir() or args.output.endswith(("/", os.sep))
    named = not is_folder and output.suffix
    if any(path.is_dir() for path in inputs) or len(inputs) > 1:
        if named and is_writable(output):
            raise UserError(f"Several images need a folder as output, and {output} names a file.")
    elif named:
        if args.format is not None and suffix_of(args.format, output) != output.suffix.lower():
            form = format_of(output)
            if form != format_of(Path("a" + suffix_of(args.format, output))):
                raise UserError(f"The output {output} asks for {form}; leave --format out.")
        return [batch.Job(inputs[0], output)]
    suffix = "png" if args.format is None else args.format
    return batch.plan(
        inputs, output, lambda source: suffix_of(suffix, source), compare=args.compare
    )


def _described(job: batch.Job, restored: Restored) -> str:
    width, height = restored.size
    parts = [f"wrote {job.output} ({width}x{height})"]
    if job.mask is not None:
        parts.append(f"mask {job.mask.name}")
    level, several = restored.level, len(restored.level.values) > 1
    # A part that was not given is absent, which is said too.
    if several or restored.estimate is not None:
        shown = level.describe(digits=3) if several else str(level)
        how = f", {restored.estimate}" if restored.estimate is not None else ""
        parts.append(f"level {shown}{how}")
    return "; ".join((*parts, *restored.notes))


def _restore_one(
    restorer: Restorer, job: batch.Job, options: Options, args: argparse.Namespace
) -> int:
    # No bar for short runs, or if the output is not a terminal.
    with tqdm(
        unit="px", unit_scale=True, disable=None, delay=1.0, leave=False, dynamic_ncols=True
    ) as bar:

        def progress(done: int, of: int) -> None:
            bar.total = of
            bar.update(done - bar.n)

        restored = restore_file(restorer, job.source, job.output, options, progress=progress)
    print(_described(job, restored))
    _write_report(args, restorer, [batch.Outcome(job, restored)])
    return 0


def _write_report(
    args: argparse.Namespace,
    restorer: Restorer,
    outcomes: list[batch.Outcome],
    estimated: str | None = None,
) -> None:
    """Writes what was done to each file as JSON, if --report is given.

    Args:
      estimated: how the shared level of all files was found, if they share one.
    """
    if args.report is None:
        return
    rows: list[dict[str, Any]] = []
    for outcome in outcomes:
        job, restored = outcome.job, outcome.restored
        # Of a pipe, their names rather than those of temporary files.
        names = getattr(args, "piped", {})
        row: dict[str, Any] = {
            "input": names.get(job.source, str(job.source)),
            "output": names.get(job.output, str(job.output)),
        }
        if restored is not None:
            row |= {
                "state": "restored",
                "size": restored.size,
                "level": restored.level.plain(),
                "estimate": restored.estimate or estimated,
                "mask": str(job.mask) if job.mask is not None else args.level_map,
                "notes": restored.notes,
            }
        else:
            row |= {"state": "failed" if outcome.failed else "skipped", "reason": outcome.failed}
        rows.append(row)
    report = {
        "version": __version__,
        "task": restorer.model.task.name,
        "backend": restorer.backend.name,
        "blend": args.blend,
        "luma": args.luma,
        "chroma": args.chroma,
        "files": rows,
    }
    text = json.dumps(report, indent=2, ensure_ascii=False) + "\n"
    # JSON has escapes for names that are not UTF-8.
    content = text.encode(errors="backslashreplace")
    write_atomically(local_path(args.report), content, overwrite=args.overwrite)


def _restore_many(
    restorer: Restorer,
    jobs: list[batch.Job],
    options: Options,
    args: argparse.Namespace,
    estimated: str | None,
) -> int:
    with tqdm(total=len(jobs), unit="file", disable=None, dynamic_ncols=True) as bar:

        def report(outcome: batch.Outcome) -> None:
            bar.update()
            if outcome.restored is not None:
                bar.write(_described(outcome.job, outcome.restored))

        outcomes = batch.run(
            restorer, jobs, options, report, workers=args.jobs, skip_existing=args.skip_existing
        )
    return _summarise(restorer, outcomes, args, estimated)


def _summarise(
    restorer: Restorer,
    outcomes: list[batch.Outcome],
    args: argparse.Namespace,
    estimated: str | None = None,
) -> int:
    """Prints the outcomes of several files; returns the exit status."""
    _write_report(args, restorer, outcomes, estimated)
    failed = [outcome for outcome in outcomes if outcome.failed is not None]
    restored = sum(outcome.restored is not None for outcome in outcomes)
    skipped = len(outcomes) - restored - len(failed)
    counts = [f"{restored} restored"]
    counts += [f"{skipped} skipped"] * bool(skipped) + [f"{len(failed)} failed"] * bool(failed)
    print(f"{counted(len(outcomes), 'file')}: {', '.join(counts)}")
    if failed:
        print("not restored:", file=sys.stderr)
        for outcome in failed:
            print(f"  {outcome.failed}", file=sys.stderr)
    return 1 if failed else 0


def _sweep(restorer: Restorer, job: batch.Job, args: argparse.Namespace, options: Options) -> int:
    levels = restorer.space.parse_list(args.sweep)
    check_output(job.source, job.output, overwrite=args.overwrite)
    photograph = read_photograph(job.source, limit=args.limit)
    sheet = sweep(restorer, photograph, levels, blend=options.blend)
    write_atomically(job.output, sheet, overwrite=args.overwrite)
    print(f"wrote {job.output}")
    return 0


def restore(args: argparse.Namespace) -> int:
    """Restores files and folders; returns 1 if some of several files failed, else 0."""
    with stopping_at_once():
        return _restore(args)


def _restore(args: argparse.Namespace) -> int:
    # Pillow's warnings about unusual files are not errors.
    warnings.filterwarnings("ignore", module="PIL")
    if args.jobs < 1:
        raise UserError(f"The number of --jobs {args.jobs} must be 1 or more.")
    check_combinations(args)
    archive = is_archive(args)
    if archive:
        check_archive(args)
    keep_compiled_programs()
    backend = _backend(args)
    restorer = load_restorer(
        args.task,
        args.weights,
        memory=args.memory,
        backend=backend,
        self_ensemble=args.self_ensemble,
    )
    if args.verbose:
        print(f"Computing with the backend {restorer.backend.name}.", file=sys.stderr)
    if args.report is not None:
        files.check_output(local_path(args.report), overwrite=args.overwrite)
        if Path(args.report).suffix.lower() != ".json":
            raise UserError(f"The report {args.report} is JSON; give a name that ends in .json.")
    task = restorer.model.task
    own = args.sweep is None and args.levels is None
    level = _level(args, task) if own else task.space.default
    options = Options(
        level,
        blend=args.blend,
        encoding=Encoding(args.quality),
        overwrite=args.overwrite,
        compare=args.compare,
        limit=args.limit,
        estimator=_estimator(args, task),
        luma=args.luma,
        chroma=args.chroma,
        level_map=None if args.level_map is None else parse_masks(args.level_map, task.space),
    )
    if archive:
        outcomes = run_archive(restorer, options, args, backend=backend)
        for outcome in outcomes:
            if outcome.restored is not None:
                print(_described(outcome.job, outcome.restored))
        return _summarise(restorer, outcomes, args)
    with _piped(args) as piped:
        status = _restore_all(restorer, options, piped)
    if (note := getattr(restorer.backend, "note", None)) is not None:
        print(note, file=sys.stderr)
    return status


def _restore_all(restorer: Restorer, options: Options, args: argparse.Namespace) -> int:
    table = None if args.levels is None else read_levels(args.levels, restorer.space)
    jobs = _jobs(args)
    several = len(args.images) > 1 or Path(args.images[0]).is_dir() or args.levels is not None
    if table is not None:
        jobs = _with_levels(jobs, args.levels, table)
    if several and args.level_map is not None:
        raise UserError(
            "--level-map is for one image; for a folder, put a mask NAME.mask.png beside NAME.jpg."
        )
    _spare_inputs(args, options, jobs)
    if args.sweep is not None:
        if several:
            raise UserError("--sweep shows one image; give one file.")
        if format_of(jobs[0].output) != "PNG":
            name = jobs[0].output.with_suffix(".png")
            raise UserError(f"A contact sheet is a PNG file; write {name}.")
    if args.sequence and not several:
        raise UserError("--sequence is for several frames; give their folder.")
    _check_formats(options.encoding, {format_of(job.output) for job in jobs})
    # A folder is made last, and goes again if a mistake is found then.
    folder = jobs[0].output != local_path(args.output)
    with made_place(args.output) if folder else contextlib.nullcontext():
        return _restore_jobs(restorer, jobs, options, args, several)


def _restore_jobs(
    restorer: Restorer,
    jobs: list[batch.Job],
    options: Options,
    args: argparse.Namespace,
    several: bool,
) -> int:
    if args.sweep is not None:
        return _sweep(restorer, jobs[0], args, options)
    estimated = None
    if args.sequence:
        options, estimated = _with_level_of_frames(restorer, jobs, options)
    if several:
        return _restore_many(restorer, jobs, options, args, estimated)
    if args.skip_existing and exists_already(jobs[0].source, jobs[0].output):
        print(f"skipped {jobs[0].output}")
        _write_report(args, restorer, [batch.Outcome(jobs[0])])
        return 0
    return _restore_one(restorer, jobs[0], options, args)


def _check_formats(encoding: Encoding, forms: set[str]) -> None:
    """Raises `UserError` if no output can be encoded so; some of several are reported later."""
    failures = []
    for form in sorted(forms):
        try:
            encoding.check(form)
        except UserError as error:
            failures.append(error)
    if len(failures) == len(forms):
        raise failures[0]


def _spare_inputs(args: argparse.Namespace, options: Options, jobs: list[batch.Job]) -> None:
    """Raises `UserError` if an output would replace what is read besides its own photograph.

    That photograph is compared where it is restored.
    """
    outputs = [path for job in jobs for path in job.written(compare=options.compare)]
    if options.overwrite and not args.skip_existing:
        batch.refuse_each_other(jobs, compare=options.compare)
    aside = [*mask_files(options.level_map), *(job.mask for job in jobs)]
    aside += [args.levels, args.weights, args.estimator]
    refuse_inputs(outputs, aside)
    if args.report is not None:
        refuse_inputs([args.report], [*aside, *(job.source for job in jobs)])


def _with_level_of_frames(
    restorer: Restorer, jobs: list[batch.Job], options: Options
) -> tuple[Options, str | None]:
    """Options with the shared level of all frames, and how it was found."""
    task = restorer.model.task
    request = task.space.request(options.level)
    if not request.estimated:
        raise UserError(
            "--sequence finds one level for all frames; leave it out, or leave a part of --level "
            "to be found, as in --level auto."
        )
    frames = [job.source for job in jobs]
    level, how = level_of_frames(
        task, request, frames, limit=options.limit, estimator=options.estimator
    )
    print(f"level {level.describe(digits=3)}, {how}", file=sys.stderr)
    return dataclasses.replace(options, level=level, estimator=None), how


def _with_levels(
    jobs: list[batch.Job], table: str, levels: Mapping[Path, LevelRequest]
) -> list[batch.Job]:
    """The jobs that a table has levels for, with those levels."""
    found = [(job, levels.get(place(job.source))) for job in jobs]
    jobs = [dataclasses.replace(job, level=level) for job, level in found if level is not None]
    if not jobs:
        named = next(iter(levels), None)
        first = "" if named is None else f", whose first row means {named}"
        raise UserError(
            f"The table {table} names none of the images; check its column of files{first} (names "
            "are relative to the folder of the table)."
        )
    left_out = [job.source for job, level in found if level is None]
    if left_out:
        print(f"left out, as {table} has no row for them:", file=sys.stderr)
        print(*(f"  {source}" for source in left_out), sep="\n", file=sys.stderr)
    unused = levels.keys() - {place(job.source) for job, _ in found}
    if unused:
        print(f"rows of {table} without an image:", file=sys.stderr)
        print(*(f"  {source}" for source in sorted(unused)), sep="\n", file=sys.stderr)
    return jobs
