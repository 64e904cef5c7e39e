"""Evaluates other programs: writes the degraded images, and measures what was made of them."""

import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tqdm
from PIL import Image

from hypernet_jax.degradations import DOWN_UP, QUANTISE, bicubic_reduce
from hypernet_jax.errors import UserError
from hypernet_jax.evaluation.measure import (
    degraded_pair,
    levels_of,
    measured,
    reference_of,
    versions,
)
from hypernet_jax.files import (
    already_exists,
    ensure_folder,
    local_path,
    refuse_among,
    refuse_inputs,
    write_atomically,
)
from hypernet_jax.images.folders import images_by_name
from hypernet_jax.images.reading import read_image
from hypernet_jax.levels import Level
from hypernet_jax.runtime import ordinary_arithmetic
from hypernet_jax.tasks import Protocol, Task

__all__ = ["evaluate_results", "write_inputs"]

# Formats that keep every pixel.
_LOSSLESS = {".png", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".pfm", ".tga"}
# How the protocols reduce an image that a task enlarges; what is stored is its reduction.
_REDUCED = (DOWN_UP, QUANTISE)


@ordinary_arithmetic()
def write_inputs(
    task: Task,
    dataset: str | Path,
    output: str | Path,
    *,
    levels: Any = (),
    protocol: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Writes the images that `evaluate` restores, as PNG files OUTPUT/LEVEL/NAME.png.

    Args:
      task: of which network the images are the inputs; for a task that enlarges they are small.
      dataset, levels, protocol, seed, progress: as for `evaluate`.
      output: a folder; made if it is missing.
      overwrite: replace files that exist.

    Returns:
      The folders, one for each level.

    Raises:
      UserError: also if a file exists, unless `overwrite`, if an image cannot be read or is too
        small, or if the protocol's images have more than 8 bits; before any is written.
    """
    rule = _writable_protocol(task, protocol)
    if task.enlarges and rule.degradation.operators != _REDUCED:
        raise UserError(
            f"The images of {task.name} are not reduced alone before they are enlarged, so there "
            "are no small images for other programs; measure this task with --weights."
        )
    folder, place = local_path(dataset), local_path(output)
    checked = levels_of(task, levels)
    images = images_by_name(folder)
    _refuse_among(folder, place, checked)
    targets = {
        (name, level): place / str(level) / f"{name}.png" for level in checked for name in images
    }
    if len(set(targets.values())) < len(targets):
        raise UserError("Two of the levels have one folder; give levels that differ more.")
    for target in targets.values():
        if os.path.lexists(target) and not overwrite:
            raise already_exists(target)
    refuse_inputs(targets.values(), images.values())
    # All are read first, so that a damaged or small one leaves nothing half written.
    for level, path in itertools.product(checked, images.values()):
        reference_of(path, rule, level)
    for (name, level), target in tqdm.tqdm(
        targets.items(), unit="image", disable=None if progress else True
    ):
        degraded, reference = degraded_pair(images[name], folder, rule, level, seed=seed)
        factor = task.factor(level)
        if factor is not None:
            degraded = bicubic_reduce(reference, factor)
        stored = degraded.astype(np.uint8)
        ensure_folder(target.parent)
        content = io.BytesIO()
        Image.fromarray(stored[..., 0] if stored.shape[-1] == 1 else stored).save(content, "PNG")
        write_atomically(target, content.getvalue(), overwrite=overwrite)
    return [place / str(level) for level in checked]


@ordinary_arithmetic()
def evaluate_results(
    task: Task,
    dataset: str | Path,
    results: str | Path,
    *,
    levels: Any = (),
    protocol: str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Measures images that any program restored, as `evaluate` measures those of a restorer.

    Args:
      task: whose protocol measures them.
      dataset: the folder of clean images.
      results: a folder with the results as RESULTS/LEVEL/NAME, named as by `write_inputs`; in a
        format without loss. Deeper files are rounded to 8 bits.
      levels, protocol, seed, progress: as for `evaluate`, and as the inputs were written.

    Returns:
      The content of results.json, without entries on a restorer.

    Raises:
      UserError: also if a result is missing or has another size than the clean image; before
        anything is measured.
    """
    rule = _writable_protocol(task, protocol)
    folder, place = local_path(dataset), local_path(results)
    checked = levels_of(task, levels)
    _refuse_among(folder, place, checked)
    images = images_by_name(folder)
    found: dict[tuple[Path, Level], Path] = {}
    for level in checked:
        of_level = place / str(level)
        if not of_level.is_dir():
            raise UserError(
                f"There is no folder {of_level}; put the results of the level {level} there."
            )
        restored = images_by_name(of_level)
        for name, path in images.items():
            if name not in restored:
                raise UserError(f"{of_level} has no image {name}; give one for each in {folder}.")
            _check_result(restored[name], path, reference_of(path, rule, level))
            found[path, level] = restored[name]

    def restore(path: Path, degraded: np.ndarray, level: Level) -> np.ndarray:
        del degraded
        return read_image(found[path, level]).astype(np.float32)

    made = measured(
        task, restore, folder, levels=levels, protocol=protocol, seed=seed, progress=progress
    )
    return made | {"versions": versions()}


def _writable_protocol(task: Task, name: str | None) -> Protocol:
    name, rule = task.protocol(name)
    if not rule.degradation.quantises:
        raise UserError(
            f"The protocol {name} has images of more than 8 bits, which files for other programs "
            "cannot hold; choose another one of the task's protocols."
        )
    return rule


def _refuse_among(images: Path, place: Path, levels: Sequence[Level]) -> None:
    for folder in (place, *(place / str(level) for level in levels)):
        refuse_among(folder, images)


def _check_result(result: Path, clean: Path, reference: np.ndarray) -> None:
    if result.suffix.lower() not in _LOSSLESS:
        raise UserError(
            f"{result} is in a format that can lose detail; give the results as PNG or TIFF."
        )
    height, width, channels = read_image(result).shape
    if (height, width) != reference.shape[:2]:
        raise UserError(
            f"{result} has {width}x{height} pixels, but {clean} is measured with "
            f"{reference.shape[1]}x{reference.shape[0]}; give the results in that size."
        )
    if channels != reference.shape[-1]:
        raise UserError(
            f"{result} has {channels} channels, but {clean} is measured with "
            f"{reference.shape[-1]}; save the results in {'colour' if channels == 1 else 'grey'}."
        )
