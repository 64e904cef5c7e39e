"""`hypernet-jax restore`: image files in, image files out."""

import argparse
from pathlib import Path

from hypernet_jax.data.images import IMAGE_SUFFIXES
from hypernet_jax.errors import UserError
from hypernet_jax.files import ensure_folder
from hypernet_jax.restoration.photographs import restore_file
from hypernet_jax.restoration.restorer import Restorer
from hypernet_jax.tasks import get_task

__all__ = ["restore"]


def _restorer(args: argparse.Namespace) -> Restorer:
    if args.task is None and args.weights is None:
        raise UserError("Give --task denoise, dejpeg or sr, or --weights FILE.")
    if args.task is not None:
        get_task(args.task)
    restorer = Restorer.from_pretrained(args.weights or args.task)
    task = restorer.model.task.name
    if args.task not in (None, task):
        raise UserError(f"The weights {args.weights} are for {task}, not for {args.task}.")
    return restorer


def _level(args: argparse.Namespace, restorer: Restorer) -> float:
    task = restorer.model.task
    flag, other = ("scale", "level") if task.enlarges else ("level", "scale")
    if getattr(args, other) is not None:
        raise UserError(f"The task {task.name} takes --{flag}, not --{other}.")
    given = getattr(args, flag)
    if given is None:
        raise UserError(f"Give --{flag}: a {task.scale.describe()}.")
    return float(task.scale.check(given))


def _outputs(images: list[Path], output: Path) -> list[Path]:
    """One output per image: `output` itself, or files of the same names in that folder."""
    for image in images:
        if image.is_dir():
            raise UserError(f"{image} is a folder; give image files.")
    if len(images) > 1 and output.suffix.lower() in IMAGE_SUFFIXES and not output.is_dir():
        raise UserError(f"Several images need a folder as output, and {output} names a file.")
    if len(images) == 1 and not output.is_dir() and output.suffix:
        return [output]
    names = [image.with_suffix(".png").name for image in images]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"Two inputs would both be written to {output / name}; rename one.")
    ensure_folder(output)
    return [output / name for name in names]


def restore(args: argparse.Namespace) -> int:
    """Restores every image; the first mistake ends the run with a sentence."""
    restorer = _restorer(args)
    level = _level(args, restorer)
    images = [Path(image) for image in args.images]
    for image, output in zip(images, _outputs(images, Path(args.output)), strict=True):
        width, height = restore_file(restorer, image, output, level=level, overwrite=args.overwrite)
        print(f"wrote {output} ({width}x{height})")
    return 0
