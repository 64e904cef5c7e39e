"""`hypernet-jax estimate`: writes a table of the estimated levels of photographs."""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from hypernet_jax.cli.interrupts import stopping_at_once
from hypernet_jax.cli.words import counted
from hypernet_jax.errors import UserError
from hypernet_jax.files import check_output, local_path
from hypernet_jax.images.folders import find_images
from hypernet_jax.images.reading import read_photograph
from hypernet_jax.inference.requests import resolve_level
from hypernet_jax.levels import AUTO, Level
from hypernet_jax.photographs.batch import named_once, naming
from hypernet_jax.photographs.level_maps import without_masks
from hypernet_jax.photographs.level_tables import place, write_levels
from hypernet_jax.tasks import DEFAULT_TASK, get_task
from hypernet_jax.weights import shipped_tasks

__all__ = ["estimate"]


def estimate(args: argparse.Namespace) -> int:
    """Writes the table; returns 1 if some photographs could not be read, else 0."""
    with stopping_at_once():
        return _estimate(args)


def _estimate(args: argparse.Namespace) -> int:
    name = args.task or (DEFAULT_TASK if DEFAULT_TASK in shipped_tasks() else None)
    if name is None:
        raise UserError(f"Give --task, one of {', '.join(shipped_tasks())}.")
    task = get_task(name)
    if task.estimate is None:
        others = [name for name in shipped_tasks() if get_task(name).estimate is not None]
        raise UserError(
            f"The level of {task.name} cannot be estimated; choose another --task: "
            f"{', '.join(others)}."
        )
    check_output(local_path(args.output), overwrite=args.overwrite)
    if "-" in args.images:
        raise UserError("A table names files, so - for standard input is not read; give a file.")
    rows: list[tuple[Path, Level, str]] = []
    failed: list[str] = []
    for source in tqdm(_photographs(args.images), unit="file", disable=None, leave=False):
        try:
            _check_name(source, args.output)
            pixels = read_photograph(source, limit=args.limit).pixels
            level, how = resolve_level(task, AUTO, pixels, source)
            rows.append((source, level, how or ""))
        except UserError as error:
            failed.append(naming(source, str(error)))
    if failed and len(args.images) == 1 and not local_path(args.images[0]).is_dir():
        raise UserError(failed[0])
    if rows:
        write_levels(args.output, rows, task.space, overwrite=args.overwrite)
        print(f"wrote {args.output} ({counted(len(rows), 'photograph')})")
    if failed:
        print("not estimated:", *failed, sep="\n  ", file=sys.stderr)
    return 1 if failed else 0


def _check_name(source: Path, table: str) -> None:
    """Raises `UserError` for a name that the table cannot hold."""
    try:
        str(place(source)).encode()
    except UnicodeEncodeError:
        if table.lower().endswith(".csv"):
            raise UserError(
                f"The name of {source} is not UTF-8; rename it, or write a .json table."
            ) from None


def _photographs(images: list[str]) -> list[Path]:
    """The photographs that are named, each once, as by overlapping patterns."""
    found: list[Path] = []
    for image in map(local_path, images):
        if image.is_dir():
            found += without_masks(find_images(image))[0]
        else:
            found.append(image)
    return named_once(found, lambda path: path)
